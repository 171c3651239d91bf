"""One kept-alive HTTP connection to one host, with a deadline for everything on it."""

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from app.adapters.dynamodb.direct.http import Closed, Malformed, Response, read_response
from app.adapters.dynamodb.direct.trust import TlsContext

_READ_SIZE = 65536  # bytes; an answer has about 500


class ConnectionFault(Exception):
    """A failed request; ``reason`` is a short name for the log: botocore's, if it has one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotSent(ConnectionFault):
    """No connection could be made, so the request was not sent."""


class NotAnswered(ConnectionFault):
    """The request was sent, and no usable answer came: the peer may have carried it out.

    ``was_idle`` is true if a kept connection was closed without a byte of an
    answer: the usual end of an idle connection.
    """

    def __init__(self, reason: str, *, was_idle: bool = False) -> None:
        super().__init__(reason)
        self.was_idle = was_idle


class Connection:
    """A connection to *host*, opened on first use and again after it is lost.

    With *trust*, it uses TLS, and the first context that verifies the peer's
    certificate and name is kept. Without, it is plain TCP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout: float,
        read_timeout: float,
        trust: Sequence[TlsContext] = (),
        look_up: Callable[..., Any] = socket.getaddrinfo,
    ) -> None:
        self._host = host.encode("ascii")  # text would be encoded as an international name, which takes 2 ms
        self._port = port
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._trust = list(trust)
        self._look_up = look_up
        self._socket: socket.socket | None = None
        self._poll = select.poll()  # of that socket

    def open(self) -> socket.socket:
        """Return the connection, a new one if there is none or the peer has closed it.

        It takes at most *connect_timeout* seconds, TLS included. Only the look-up
        of the host's name has no time-out but the system resolver's.

        Raises:
            NotSent: no connection could be made.
        """
        if self._socket is not None and self._poll.poll(0) and _was_closed(self._socket):
            self.close()
        if self._socket is None:
            deadline = time.monotonic() + self._connect_timeout
            self._socket = self._secured(deadline) if self._trust else self._connected(deadline)
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
        self._socket.settimeout(self._read_timeout)
        return self._socket

    def exchange(self, request: bytes) -> Response:
        """Send a whole request and return its response, within *read_timeout* seconds once connected.

        Raises:
            NotSent: no connection could be made.
            NotAnswered: no usable answer came.
        """
        kept = self._socket
        connection = self.open()
        was_idle = connection is kept
        deadline = time.monotonic() + self._read_timeout
        answered = False

        def receive() -> bytes:
            nonlocal answered
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            data = connection.recv(_READ_SIZE)
            answered = answered or bool(data)
            return data

        try:
            connection.sendall(request)
            response = read_response(receive)
        except TimeoutError:
            raise self._lost("ReadTimeoutError") from None
        except Malformed as error:
            raise self._lost("MalformedResponse") from error
        except (Closed, OSError):
            raise self._lost("ConnectionClosedError", was_idle=was_idle and not answered) from None
        except BaseException:  # such as Ctrl-C: the next request must not get this answer
            self.close()
            raise
        if not response.reusable:
            self.close()
        return response

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __del__(self) -> None:
        self.close()  # the connection ends with its owner

    def _lost(self, reason: str, *, was_idle: bool = False) -> NotAnswered:
        self.close()  # the next request must not get this answer
        return NotAnswered(reason, was_idle=was_idle)

    def _secured(self, deadline: float) -> socket.socket:
        while True:
            context = self._trust[0]()
            plain = self._connected(deadline)
            try:
                plain.settimeout(max(deadline - time.monotonic(), 0.001))
                return context.wrap_socket(plain, server_hostname=self._host)
            except ssl.SSLCertVerificationError as error:
                plain.close()
                if len(self._trust) == 1:
                    raise NotSent(f"SSLError: {error.verify_message}") from error
                del self._trust[0]
            except TimeoutError:
                plain.close()
                raise NotSent("ConnectTimeoutError") from None
            except OSError:
                plain.close()
                raise NotSent("SSLError") from None

    def _connected(self, deadline: float) -> socket.socket:
        """Connect to the first of the host's addresses that accepts; each gets its share of the time."""
        fault = NotSent("EndpointConnectionError")
        try:
            addresses = self._look_up(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError:
            raise fault from None
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                made = socket.socket(family, kind, protocol)
            except OSError:  # an address family that this machine lacks
                continue
            try:
                left = (deadline - time.monotonic()) / (len(addresses) - tried)
                made.settimeout(max(left, 0.001))
                made.connect(address)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                made.close()
                if isinstance(error, TimeoutError):
                    fault = NotSent("ConnectTimeoutError")
            else:
                return made
        raise fault


def host_and_port(authority: str, default: int) -> tuple[str, int]:
    """Return the host and the port of *authority*, the part of a URL; without a port, the *default*."""
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):  # no port; a bracket ends an IPv6 address
        host, port = authority, str(default)
    return host.strip("[]"), int(port)


def _was_closed(connection: socket.socket) -> bool:
    """Return whether an idle connection was closed, or has bytes that no request asked for.

    It has to be read: under TLS 1.3 the waiting bytes may be session tickets,
    which come after the handshake and mean nothing here.
    """
    connection.settimeout(0)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True
