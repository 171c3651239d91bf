"""Confine a server that listens on every interface, so that only loopback reaches it.

    python tests/loopback.py PORT INNER_PORT COMMAND...

The server runs in a network namespace of its own (Linux: network_namespaces(7)),
which has only a loopback interface. This process forwards PORT on 127.0.0.1 to
INNER_PORT in the namespace. It ends when the server ends. It ends the server on
SIGTERM or when its standard input closes, so that the server does not outlive
the process that started it.

The exit status is 75 (EX_TEMPFAIL) if no namespace can be created.
"""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

NO_NAMESPACE = 75

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 1
_ENDS = {signal.SIGTERM, signal.SIGCHLD}  # a request to end, or the server has ended


def main() -> int:
    port, inner_port, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # they stay pending until sigwait, however early
    with socket.create_server(("127.0.0.1", int(port)), backlog=128) as listener:
        try:
            enter_network_namespace()
        except (OSError, AttributeError):  # not allowed here, or not Linux
            return NO_NAMESPACE
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=_unblock_signals,  # noqa: PLW1509 - there is no other thread yet
        ) as server:
            threading.Thread(target=_end_with_standard_input, daemon=True).start()
            threading.Thread(target=_forward, args=(listener, int(inner_port)), daemon=True).start()
            signal.sigwait(_ENDS)
            server.terminate()
            return server.wait()


def enter_network_namespace() -> None:
    """Move this process and its future children into a new network namespace; open sockets stay outside.

    A user namespace with the same user and group ids makes this possible without root.

    Raises:
        OSError: it is not allowed here.
        AttributeError: the system is not Linux.
    """
    user, group = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)


def _end_with_standard_input() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _forward(listener: socket.socket, port: int) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_connect, args=(client, port), daemon=True).start()


def _connect(client: socket.socket, port: int) -> None:
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = threading.Thread(target=_copy, args=(server, client), daemon=True)
        answers.start()
        _copy(client, server)
        answers.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # either side may close the connection
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main())
