"""One kept-alive connection to one peer, with a deadline on all that happens on it."""

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from app.adapters.dynamodb_direct.http import Closed, Malformed, Response, read_response
from app.adapters.dynamodb_direct.trust import TlsContext

_AT_ONCE = 65536  # bytes read at once; an answer has some 500


class ConnectionFault(Exception):
    """What went wrong, by a short name for the log: botocore's, where it has one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotSent(ConnectionFault):
    """No connection could be made: the peer knows nothing of the request."""


class NotAnswered(ConnectionFault):
    """The request went out, and no answer came that can be read: the peer may have carried it out.

    ``was_idle`` is true where a connection kept from an earlier request was
    closed without a byte of answer: the usual end of an idle connection.
    """

    def __init__(self, reason: str, *, was_idle: bool = False) -> None:
        super().__init__(reason)
        self.was_idle = was_idle


class Connection:
    """A connection to *host*, made when it is first needed and again when it was lost.

    With *trust*, it is TLS: the first context that verifies the peer's
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
        self._host = host.encode("ascii")  # as text it would be taken for an international name: 2 ms more
        self._port = port
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._trust = list(trust)
        self._look_up = look_up
        self._socket: socket.socket | None = None
        self._poll = select.poll()  # of that socket

    def open(self) -> socket.socket:
        """The connection: a new one where there is none, or where the peer has closed it.

        It all, TLS included, takes *connect_timeout* seconds at most; only
        looking up the host's name has no limit but the system's resolver's.

        Raises:
            NotSent: it could not be had.
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
        """Send a whole request and return its response, within *read_timeout* seconds of having a connection.

        Raises:
            NotSent: there was no connection to be had.
            NotAnswered: there was no answer, or none that can be read.
        """
        kept = self._socket
        connection = self.open()
        was_idle = connection is kept
        deadline = time.monotonic() + self._read_timeout
        heard = False

        def receive() -> bytes:
            nonlocal heard
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            data = connection.recv(_AT_ONCE)
            heard = heard or bool(data)
            return data

        try:
            connection.sendall(request)
            response = read_response(receive)
        except TimeoutError:
            raise self._lost("ReadTimeoutError") from None
        except Malformed as error:
            raise self._lost("MalformedResponse") from error
        except (Closed, OSError):
            raise self._lost("ConnectionClosedError", was_idle=was_idle and not heard) from None
        except BaseException:  # Ctrl-C, say: its answer must not be taken for that of the next request either
            self.close()
            raise
        if not response.reusable:
            self.close()
        return response

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __del__(self) -> None:
        self.close()  # a connection ends with its owner

    def _lost(self, reason: str, *, was_idle: bool = False) -> NotAnswered:
        self.close()  # a late answer must not be taken for that of the next request
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
        """A connection to the first of the host's addresses that takes it; each has its share of the time."""
        fault = NotSent("EndpointConnectionError")
        try:
            addresses = self._look_up(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError:
            raise fault from None
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                made = socket.socket(family, kind, protocol)
            except OSError:  # a family of addresses that this machine does not have
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


def _was_closed(connection: socket.socket) -> bool:
    """Whether a connection between two requests has come to its end, or to bytes that nobody asked for.

    It has to be read to know: under TLS 1.3 what waits may be the peer's
    session tickets, which come after the handshake and mean nothing here.
    """
    connection.settimeout(0)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True
