"""HTTP/1.1 responses for an API client, read from a peer that may send anything.

By RFC 9112. What breaks its rules is `Malformed`, never a guess: a misread
response could look like a success.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

MAX_HEAD = 32 * 1024
"""Bytes of status line and headers, with interim responses; DynamoDB sends about 300."""
MAX_BODY = 8 * 1024 * 1024
"""Bytes of a body; DynamoDB's longest answers have 1 MB of data."""

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_HEADERS = re.compile(r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_LENGTH = re.compile(r"[0-9]{1,10}")

_SWITCHING_PROTOCOLS = 101
_FINAL = 200  # and above
_NO_BODY = frozenset({204, 304})


class Malformed(Exception):
    """The bytes are no HTTP/1.1 response that this client understands, or it is too long."""


class Closed(Exception):
    """The peer closed the connection before the response was complete."""


class Response(NamedTuple):
    """A complete response. Header names are in lower case, repeated values joined by commas.

    ``reusable`` is true if the connection may carry another request.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


def read_response(receive: Callable[[], bytes]) -> Response:
    """Return one response; *receive* returns the next bytes, or none at the end of the stream.

    Raises:
        Malformed: the bytes are no response.
        Closed: the stream ended before the response did.
    """
    return _Reader(receive).response()


class _Reader:
    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self._head_bytes_left = MAX_HEAD

    def response(self) -> Response:
        persistent, status, headers = self._head()
        while status < _FINAL:  # an interim response (RFC 9110, 15.2); the final one follows
            if status == _SWITCHING_PROTOCOLS:
                raise Malformed("it switches protocols, which was not asked for")
            persistent, status, headers = self._head()
        body, delimited = self._body(status, headers)
        options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
        # bytes beyond the response would be read as the next answer
        reusable = persistent and delimited and "close" not in options and not self._buffer
        return Response(status, headers, body, reusable)

    def _head(self) -> tuple[bool, int, dict[str, str]]:
        text = self._up_to(b"\r\n\r\n")[:-2].decode("latin-1")
        match = _STATUS_LINE.match(text)
        if match is None:
            raise Malformed("no status line")
        return match[1] == "1", int(match[2]), _headers(text[match.end() :])

    def _body(self, status: int, headers: dict[str, str]) -> tuple[bytes, bool]:
        """Return the body, and whether it is delimited by more than the end of the stream (RFC 9112, 6.3)."""
        if status in _NO_BODY:
            return b"", True
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise Malformed("a transfer coding other than chunked, or a length beside it")
            return self._chunks(), True
        if length is not None:
            if not _LENGTH.fullmatch(length) or int(length) > MAX_BODY:
                raise Malformed("no content length, or too long a one")
            return self._take(int(length)), True
        return self._rest(), False

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            self._head_bytes_left = MAX_HEAD  # for each chunk size; the body has its own limit
            match = _CHUNK_SIZE.fullmatch(self._up_to(b"\r\n"))
            if match is None:
                raise Malformed("no chunk size")
            size = int(match[1], 16)
            if size == 0:
                break
            if len(body) + size > MAX_BODY:
                raise Malformed("too long a body")
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise Malformed("a chunk longer than it says")
        while (trailer := self._up_to(b"\r\n")) != b"\r\n":
            _headers(trailer.decode("latin-1"))
        return bytes(body)

    def _rest(self) -> bytes:
        while data := self._receive():
            self._buffer += data
            if len(self._buffer) > MAX_BODY:
                raise Malformed("too long a body")
        return self._take(len(self._buffer))

    def _up_to(self, end: bytes) -> bytes:
        """Return the next bytes up to and with the first *end*."""
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > self._head_bytes_left:
                raise Malformed("too long a head")
            self._fill()
        size = at + len(end)
        self._head_bytes_left -= size
        if self._head_bytes_left < 0:
            raise Malformed("too long a head")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self) -> None:
        data = self._receive()
        if not data:
            raise Closed
        self._buffer += data


def _headers(lines: str) -> dict[str, str]:
    if not _HEADERS.fullmatch(lines):
        raise Malformed("no header")
    headers: dict[str, str] = {}
    for line in lines.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
