"""A server that listens on every interface is reached by loopback alone, and ends with whoever started it."""

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
                leave_out("no network namespace can be had here")
            yield process
        finally:
            process.terminate()


def answer(address: tuple[str, int]) -> bytes:
    """What the server says: its process id; nothing where no server answers."""
    try:
        with socket.create_connection(address, timeout=10) as client:
            return client.recv(100)
    except OSError:
        return b""


def test_only_the_one_loopback_address_reaches_it() -> None:
    port = free_port()

    with confined_server(port):
        assert answer(("127.0.0.1", port))
        assert not answer(("127.0.0.2", port))  # a server on every interface would answer here
        assert not answer(("127.0.0.1", 8000))


@pytest.mark.parametrize("how", ["terminate", "close its standard input"])
def test_it_ends_with_whoever_started_it(how: str) -> None:
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
