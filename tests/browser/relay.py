"""A bad network between a page and the focus: one `weir-relay` process, see docs/testing.md.

Not here: how the page is led to it (watch.js), what a network does (tests/relay).
"""

import json
import queue
import subprocess
import threading

ANSWER_SECONDS_MAX = 5


class Relay:
    """Runs until `close`; perfect until told otherwise."""

    def __init__(self, binary, focus_port, log_path, seed=1, every_s=0.1, trace_path=None):
        self._log = open(log_path, "ab")
        command = [binary, "--to", f"127.0.0.1:{focus_port}", "--seed", str(seed), "--every", str(every_s)]
        if trace_path:
            command += ["--trace", str(trace_path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        self.address = json.loads(self.process.stdout.readline())["listen"]
        self._asked = queue.Queue()
        self._watching = threading.Event()
        self.watched = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            report = json.loads(line)
            if self._watching.is_set():
                self.watched.append(report)
            self._asked.put(report)

    def _say(self, line):
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def set(self, up="", down=""):
        """Begins a network for each direction now, in the notation of `weir-relay --help`."""
        self._say(f"up {up}")
        self._say(f"down {down}")

    def set_both(self, network):
        """The same network in both directions."""
        self.set(network, network)

    def counters(self):
        """What happened so far: {"seconds", "clients", "up": {…}, "down": {…}}."""
        while not self._asked.empty():
            self._asked.get_nowait()
        self._say("report")
        return self._asked.get(timeout=ANSWER_SECONDS_MAX)

    def watch(self):
        """Keeps all counters from now on in `watched`, ten a second."""
        self.watched = []
        self._watching.set()

    def stop_watching(self):
        """Gives what was kept."""
        self._watching.clear()
        return self.watched

    def close(self):
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._log.close()
