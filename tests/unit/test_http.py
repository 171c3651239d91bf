"""Reading a response from a peer that may send anything."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.dynamodb.direct.http import MAX_BODY, MAX_HEAD, Closed, Malformed, Response, read_response


def read(*pieces: bytes) -> Response:
    """The response in *pieces*, received one by one, then the end of the stream."""
    rest = iter(pieces)
    return read_response(lambda: next(rest, b""))


def split(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


ORDINARY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Amzn-RequestId: R1\r\n\r\n{}"
CHUNKED = (
    b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'4;name="x"\r\n{"a"\r\n3\r\n:1}\r\n0\r\nTrailer: t\r\n\r\n'
)


def test_a_body_with_a_content_length() -> None:
    assert read(ORDINARY) == Response(
        200, {"content-length": "2", "x-amzn-requestid": "R1"}, b"{}", reusable=True
    )


def test_a_body_in_chunks_with_extensions_and_trailers() -> None:
    assert read(CHUNKED) == Response(400, {"transfer-encoding": "chunked"}, b'{"a":1}', reusable=True)


def test_a_body_that_ends_with_the_stream() -> None:
    response = read(b"HTTP/1.1 200 OK\r\n\r\n{", b"}")

    assert response.body == b"{}"
    assert not response.reusable


@given(sizes=st.lists(st.integers(1, 20)), whole=st.sampled_from([ORDINARY, CHUNKED]))
def test_the_size_of_the_pieces_makes_no_difference(sizes: list[int], whole: bytes) -> None:
    assert read(*split(whole, sizes)) == read(whole)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_statuses_have_no_body(status: bytes) -> None:
    assert read(b"HTTP/1.1 " + status + b"\r\n\r\n") == Response(int(status[:3]), {}, b"", reusable=True)


def test_interim_responses_are_skipped() -> None:
    assert (
        read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + ORDINARY).status
        == 200
    )


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive, CLOSE\r\nContent-Length: 0",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0",
    ],
)
def test_a_connection_that_the_peer_closes_is_not_reusable(head: bytes) -> None:
    assert not read(head + b"\r\n\r\n").reusable


def test_a_connection_with_surplus_bytes_is_not_reusable() -> None:
    assert not read(ORDINARY + b"HTTP/1.1 200 OK\r\n").reusable


def test_repeated_headers_are_joined_and_stripped() -> None:
    response = read(b"HTTP/1.1 200\r\nA:  1 \r\na:\t2\t\r\nContent-Length: 0\r\n\r\n")

    assert response.headers["a"] == "1, 2"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\r\n\r\n", id="no status line"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", id="another version"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="a status of four digits"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", id="a switch of protocols"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", id="a line without a colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n", id="a folded line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}", id="a space before the colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\n{}", id="a length that is not a number"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", id="two lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), id="too long a length"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", id="an unknown coding"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
            id="chunks and a length",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n", id="no chunk size"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}}}\r\n0\r\n\r\n",
            id="a chunk longer than it says",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", id="too long a chunk"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n", id="no trailer"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD, id="an endless head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD, id="an endless header"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_HEAD, id="endless interim responses"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY + 1), id="an endless body"),
    ],
)
def test_anything_else_is_malformed(sent: bytes) -> None:
    with pytest.raises(Malformed):
        read(*split(sent, [65536] * (len(sent) // 65536)))


@given(cut=st.integers(0, len(CHUNKED) - 1))
def test_a_truncated_response_is_closed(cut: int) -> None:
    with pytest.raises(Closed):
        read(CHUNKED[:cut])


@given(
    pieces=st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"Content-Length: 2\r\n",
                b"\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"2\r\n{}",
            ]
        ),
        max_size=12,
    )
)
def test_arbitrary_bytes_are_a_whole_response_malformed_or_closed(pieces: list[bytes]) -> None:
    sent = b"".join(pieces)

    try:
        response = read(*[piece for piece in pieces if piece])
    except (Malformed, Closed):
        return

    assert sent.startswith(b"HTTP/1.")
    assert response.body in sent or b"chunked" in sent
