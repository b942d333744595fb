#!/usr/bin/env python3
"""Runs a command beside a real homeserver.

    tests/with_synapse.py cargo test --workspace --test device

Installs and starts Synapse (see synapse.py) and sets WEIR_TEST_HOMESERVER to its address, and WEIR_TEST_SYNAPSE to the folder
of its installation, for tests that start one of their own; ends with the exit code of the command.
"""

import os
import pathlib
import socket
import subprocess
import sys

import synapse

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = TARGET / "synapse"
    process, base_url = synapse.start(folder, free_port())
    environment = {**os.environ, "WEIR_TEST_HOMESERVER": base_url, "WEIR_TEST_SYNAPSE": str(folder)}
    try:
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode
    finally:
        synapse.stop(process)


if __name__ == "__main__":
    sys.exit(main())
