"""MiniStack as a process on loopback, on a port of its own; nothing of it is left behind."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

from infra.stack import LocalStackFailure

_HERE = Path(__file__).parent
_SCRIPT = _HERE / "emulator.py"
_HOST = "127.0.0.1"
_READY_WITHIN = 120  # seconds; it takes about one, and much longer on a busy machine
_LOOK_AGAIN = 0.05  # seconds
_SERVER_PORTS = range(20_000, 32_768)
_ENDED = "ZX"  # states of a process: a zombie, and dead
CLOCK = ("FAKETIME", "LD_PRELOAD", "DYLD_")
"""The variables of faketime(1) begin with these; all processes must have one clock."""

IDLE_LIMIT = timedelta(minutes=10)
"""How long a connection may be without a message (API Gateway's quotas page, 'Idle Connection Timeout')."""


@contextmanager
def ministack(directory: Path, idle_limit: timedelta = IDLE_LIMIT) -> Iterator[str]:
    """Run MiniStack during a block and yield its endpoint; its files and its log are in *directory*.

    A WebSocket connection is closed once it is idle for *idle_limit*.

    Raises:
        LocalStackFailure: it did not start.
    """
    port = free_port()
    with (directory / "ministack.log").open("wb") as log:
        process = subprocess.Popen(
            [_python(), "-P", str(_SCRIPT)],  # -P: what lies beside the script is not to be imported
            env=_environment(port, directory, idle_limit),
            cwd=directory,
            stdin=subprocess.PIPE,  # closes when this process ends, and ends MiniStack
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us to handle; the functions' processes are in its group
        )
    try:
        _wait_until_ready(process, port)
        yield f"http://{_HOST}:{port}"
    finally:
        # It has nothing outside *directory*, so it needs no time to clean up.
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        while _is_running(group=process.pid):  # a function may still write to *directory*
            time.sleep(_LOOK_AGAIN)


def find_uv() -> str | None:
    """Return the uv that runs this process, else one on the path, or the checkout's own."""
    own = _HERE.parent / "build" / "uv" / "bin"
    return os.environ.get("UV") or shutil.which("uv") or shutil.which("uv", path=str(own))


def uv(*arguments: str) -> str:
    """Run ``uv`` in the checkout and return its output; without the network if its cache suffices.

    Raises:
        LocalStackFailure: there is no uv, or it failed.
    """
    executable = find_uv()
    if executable is None:
        raise LocalStackFailure("There is no uv on this machine; `pip install uv` is one way to have it.")
    command = [executable, *arguments]
    offline = subprocess.run(
        [*command, "--offline"], cwd=_HERE.parent, check=False, capture_output=True, text=True
    )
    if offline.returncode == 0:
        return offline.stdout
    try:
        return subprocess.run(command, cwd=_HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    except subprocess.CalledProcessError as error:
        raise LocalStackFailure(f"`uv {' '.join(arguments)}` failed; its reason is above.") from error


def _python() -> str:
    """Return the interpreter of the script's locked environment, which is created if needed."""
    uv("sync", "--quiet", "--locked", "--python", sys.executable, "--script", str(_SCRIPT))
    return uv("python", "find", "--script", str(_SCRIPT)).strip()


def free_port() -> int:
    """Return a free port of loopback, for a server that can't choose one itself.

    It is outside the system's range for clients (ip(7),
    ``ip_local_port_range``), so no client takes it before the server is up.
    """
    while True:
        port = secrets.choice(_SERVER_PORTS)
        with suppress(OSError), socket.create_server((_HOST, port)):
            return port


def _environment(port: int, directory: Path, idle_limit: timedelta) -> dict[str, str]:
    """Return MiniStack's environment: the caller's path and clock; no credentials, proxies or endpoints."""
    clock = {name: value for name, value in os.environ.items() if name.startswith(CLOCK)}
    return clock | {
        "PATH": os.environ.get("PATH", os.defpath),
        "TMPDIR": str(directory),
        "BIND_HOST": _HOST,
        "GATEWAY_PORT": str(port),
        "AUTH": "true",  # a function may do what its role allows, and no more
        "DOCKER_HOST": f"unix://{directory}/no-docker",  # or it sweeps containers up at start and stop
        "IOT_MTLS_ENABLED": "0",  # or it opens a second port
        "SFTP_ENABLED": "0",
        "IDLE_SECONDS": str(idle_limit.total_seconds()),  # for infra/emulator.py
    }


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LocalStackFailure(f"MiniStack ended at once, with exit status {process.returncode}.")
        with suppress(OSError), closing(HTTPConnection(_HOST, port, timeout=1)) as connection:
            connection.request("GET", "/_ministack/ready")
            if connection.getresponse().status == HTTPStatus.OK:
                return
        time.sleep(_LOOK_AGAIN)
    raise LocalStackFailure(f"MiniStack did not answer within {_READY_WITHIN} s.")


def _is_running(*, group: int) -> bool:
    """Return whether a process of *group* has not ended (proc_pid_stat(5)); false where there is no /proc."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, its_group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(its_group) == group and state not in _ENDED:
                return True
    return False
