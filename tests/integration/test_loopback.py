"""A confined server is reachable on one loopback address only, and ends with its parent process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.process import free_port
from tests import loopback
from tests.deadline import eventually
from tests.lanes import leave_out

SERVER = """
import os, socket
server = socket.create_server(("", 8000))
while True:
    server.accept()[0].sendall(str(os.getpid()).encode())
"""


@contextmanager
def confined_server(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-I", loopback.__file__, str(port), "8000", sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            eventually(lambda: bool(answer(("127.0.0.1", port))) or process.poll() is not None)
            if process.poll() == loopback.NO_NAMESPACE:
                leave_out("no network namespace can be created here")
            yield process
        finally:
            process.terminate()


def answer(address: tuple[str, int]) -> bytes:
    """Return the server's answer, its process id; empty if no server answers."""
    try:
        with socket.create_connection(address, timeout=10) as client:
            return client.recv(100)
    except OSError:
        return b""


def test_a_confined_server_is_reachable_on_one_loopback_address_only() -> None:
    port = free_port()

    with confined_server(port):
        assert answer(("127.0.0.1", port))
        assert not answer(("127.0.0.2", port))  # a server on every interface would answer here
        assert not answer(("127.0.0.1", 8000))


@pytest.mark.parametrize("how", ["terminate", "close its standard input"])
def test_a_confined_server_ends_with_its_parent(how: str) -> None:
    port = free_port()

    with confined_server(port) as process:
        server = int(answer(("127.0.0.1", port)))
        if how == "terminate":
            process.terminate()
        else:
            assert process.stdin is not None
            process.stdin.close()
        process.wait(timeout=10)

    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    assert not answer(("127.0.0.1", port))
