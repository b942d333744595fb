#!/usr/bin/env python3
"""A real homeserver for tests: Synapse from PyPI in a virtual environment, on loopback, with SQLite.

As a module: install(), start(), stop(), register(). As a command it runs a homeserver until it is interrupted:

    tests/synapse.py [--dir target/synapse] [--port 8008] [--focus @focus:localhost/DEVICE] [--appservice FILE] [user:password …]

Needs Python 3.10 or newer with venv, and the network at the first installation. Everything is kept under one folder.
"""

import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

VERSION = "1.163.2"
SERVER_NAME = "localhost"
DEFAULT_DIR = pathlib.Path(__file__).resolve().parent.parent / "target" / "synapse"
START_SECONDS_MAX = 60

# Every limit that a test of many quick logins, joins and messages would meet.
UNLIMITED = {"per_second": 10000, "burst_count": 10000}
LIMITS = {
    "rc_message": UNLIMITED,
    "rc_registration": UNLIMITED,
    "rc_registration_token_validity": UNLIMITED,
    "rc_login": {"address": UNLIMITED, "account": UNLIMITED, "failed_attempts": UNLIMITED},
    "rc_admin_redaction": UNLIMITED,
    "rc_joins": {"local": UNLIMITED, "remote": UNLIMITED},
    "rc_joins_per_room": UNLIMITED,
    "rc_invites": {"per_room": UNLIMITED, "per_user": UNLIMITED, "per_issuer": UNLIMITED},
    "rc_room_creation": UNLIMITED,
    "rc_presence": {"per_user": UNLIMITED},
    "rc_delayed_event_mgmt": UNLIMITED,
    "rc_reports": UNLIMITED,
    "rc_user_directory": UNLIMITED,
}


class SynapseError(Exception):
    """What went wrong, in words for who runs the test."""


def install(directory=DEFAULT_DIR):
    """Installs Synapse into `directory`/venv unless it is there; gives the Python that runs it."""
    directory = pathlib.Path(directory)
    venv = directory / "venv"
    python = venv / "bin" / "python"
    marker = venv / f"installed-{VERSION}"
    if marker.exists() and python.exists():
        return python
    # A half-made environment of an interrupted run is not repaired but replaced.
    shutil.rmtree(venv, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(venv)], "make a virtual environment (is python3-venv installed?)")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, f"matrix-synapse=={VERSION}"], "install Synapse from PyPI")
    marker.touch()
    return python


def start(directory=DEFAULT_DIR, port=8008, foci=(), fresh=True, log=None, appservices=(), federation_port=None):
    """Starts Synapse on 127.0.0.1:`port` and waits until it answers; gives (process, base URL).

    `foci` are (user id, device id) pairs for the well-known document, `appservices` paths of registrations. With `fresh` the data of an earlier run on this
    port is deleted. `log` is a path that the output goes to; by default a file beside the data. With a `federation_port` the homeserver is called
    server_name(federation_port), and federates with others of the same `directory`.
    """
    directory = pathlib.Path(directory)
    python = install(directory)
    data = directory / f"data-{port}"
    if fresh:
        shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True, exist_ok=True)
    base_url = f"http://127.0.0.1:{port}"
    config = data / "homeserver.yaml"
    # YAML reads JSON, and the standard library writes it.
    content = _config(data, port, base_url, foci, appservices)
    if federation_port:
        content = _federating(content, federation_port, *_certificate(directory))
    config.write_text(json.dumps(content, indent=1))
    log = pathlib.Path(log) if log else data / "homeserver.log"
    command = [str(python), "-m", "synapse.app.homeserver", "--config-path", str(config)]
    with log.open("ab") as output:
        if not (data / "signing.key").exists():
            subprocess.run([*command, "--generate-keys"], stdout=output, stderr=output, check=False)
        process = subprocess.Popen(command, cwd=data, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with urllib.request.urlopen(f"{base_url}/health", timeout=2):
                if process.poll() is None:
                    return process, base_url
        except OSError:
            pass
        if process.poll() is not None:
            raise SynapseError(f"Synapse ended at once; is port {port} taken? Last of {log}:\n{_tail(log)}")
        if time.monotonic() > deadline:
            stop(process)
            raise SynapseError(f"Synapse did not answer in {START_SECONDS_MAX} s. Last of {log}:\n{_tail(log)}")
        time.sleep(0.1)


def stop(process):
    """Ends a process that start() gave."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def register(base_url, user, password, device_id=None):
    """Registers an account and logs it in; gives the answer (user_id, access_token, device_id)."""
    body = {"username": user, "password": password, "auth": {"type": "m.login.dummy"}}
    if device_id:
        body["device_id"] = device_id
    request = urllib.request.Request(
        f"{base_url}/_matrix/client/v3/register",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SynapseError(f"cannot register {user}: {error.code} {error.read().decode(errors='replace')}") from error


def server_name(federation_port=None):
    """What comes after the colon in ids. With the port in it, others find the homeserver without DNS or a well-known file."""
    return f"{SERVER_NAME}:{federation_port}" if federation_port else SERVER_NAME


def _certificate(directory):
    """Paths of the certificate for all homeservers of this folder, and of its key; made once. It vouches for itself, and all trust it."""
    certificate, key = directory / "federation.crt", directory / "federation.key"
    if not (certificate.exists() and key.exists()):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"]
        names = ["-subj", f"/CN={SERVER_NAME}", "-addext", f"subjectAltName=DNS:{SERVER_NAME}"]
        _run([*command, *names, "-keyout", str(key), "-out", str(certificate)], "make a certificate (is openssl installed?)")
    return certificate, key


def _federating(config, port, certificate, key):
    """A configuration with federation over TLS on 127.0.0.1:`port`, wherever the others are."""
    listener = {
        "port": port,
        "type": "http",
        "tls": True,
        "bind_addresses": ["127.0.0.1"],
        "x_forwarded": False,
        "resources": [{"names": ["federation"], "compress": False}],
    }
    return {
        **config,
        "server_name": server_name(port),
        "listeners": [*config["listeners"], listener],
        "tls_certificate_path": str(certificate.resolve()),
        "tls_private_key_path": str(key.resolve()),
        "federation_custom_ca_list": [str(certificate.resolve())],
        # By default Synapse speaks to no homeserver on loopback.
        "ip_range_blacklist": [],
        "rc_federation": {"window_size": 1000, "sleep_limit": 10000, "sleep_delay": 0, "reject_limit": 10000, "concurrent": 100},
    }


def _config(data, port, base_url, foci, appservices):
    log_config = data / "log.yaml"
    log_config.write_text(json.dumps({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"level": "WARNING", "handlers": ["console"]},
    }))
    config = {
        "server_name": SERVER_NAME,
        "public_baseurl": base_url,
        "pid_file": str(data / "homeserver.pid"),
        "listeners": [{
            "port": port,
            "type": "http",
            "bind_addresses": ["127.0.0.1"],
            "x_forwarded": False,
            "resources": [{"names": ["client"], "compress": False}],
        }],
        "database": {"name": "sqlite3", "args": {"database": str(data / "homeserver.db")}},
        "log_config": str(log_config),
        "media_store_path": str(data / "media"),
        "signing_key_path": str(data / "signing.key"),
        "macaroon_secret_key": "only for tests",
        "form_secret": "only for tests",
        "registration_shared_secret": "only for tests",
        "report_stats": False,
        "trusted_key_servers": [],
        "enable_registration": True,
        "enable_registration_without_verification": True,
        # Hashing a password at full cost is most of what a login takes.
        "bcrypt_rounds": 4,
        "presence": {"enabled": False},
        "app_service_config_files": [str(pathlib.Path(registration).resolve()) for registration in appservices],
        **LIMITS,
    }
    if foci:
        entry = [{"user_id": user, "device_id": device} for user, device in foci]
        config["extra_well_known_client_content"] = {"org.matrix.msc3898.foci": entry}
    return config


def _run(command, what):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        raise SynapseError(f"cannot {what}:\n{result.stdout[-4000:]}")


def _tail(path):
    try:
        return path.read_text(errors="replace")[-4000:]
    except OSError as error:
        return str(error)


def main():
    parser = argparse.ArgumentParser(description="Runs a Synapse homeserver for tests until it is interrupted.")
    parser.add_argument("--dir", default=DEFAULT_DIR, help="folder for installation and data (default %(default)s)")
    parser.add_argument("--port", type=int, default=8008)
    parser.add_argument("--focus", action="append", default=[], metavar="USER/DEVICE", help="name it in the well-known")
    parser.add_argument("--appservice", action="append", default=[], metavar="FILE", help="a registration that it loads")
    parser.add_argument("--keep", action="store_true", help="keep the data of an earlier run")
    parser.add_argument("account", nargs="*", metavar="USER:PASSWORD", help="register these accounts")
    arguments = parser.parse_args()
    try:
        foci = [tuple(focus.rsplit("/", 1)) for focus in arguments.focus]
        process, base_url = start(arguments.dir, arguments.port, foci, fresh=not arguments.keep, appservices=arguments.appservice)
        for account in arguments.account:
            user, _, password = account.partition(":")
            register(base_url, user, password)
    except SynapseError as error:
        sys.exit(f"tests/synapse.py: {error}")
    print(base_url, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        sys.exit(process.wait())
    except KeyboardInterrupt:
        stop(process)


if __name__ == "__main__":
    main()
