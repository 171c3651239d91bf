"""The issuer over real sockets with TLS: what is asked, what is taken, and why anything else is refused."""

import json
import socket
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.keys import DynamoDBKeyStore
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.tokens.es256 import ES256
from app.adapters.tokens.issuer import MAX_DOCUMENT, MAX_KEYS, HttpsIssuer
from app.adapters.tokens.rs256 import RS256
from app.containers.keys import Keys
from app.domain.errors import IssuerUnavailable
from app.entrypoints.keys import KeysHandler
from app.settings import Settings
from tests.dynamodb_local import REGION
from tests.environment import UNHURRIED
from tests.peer import always_saying, peer, request_from
from tests.template import table_properties

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DISCOVERY, JWKS = "/.well-known/openid-configuration", "/keys"
PATIENCE = timedelta(seconds=30)  # on a busy machine

type Answer = Callable[[socket.socket], None]
type Jwk = dict[str, Any]


class IssuerServer:
    """An issuer on loopback: an answer for each path, and the requests."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        """The path of each."""
        self.heads: list[str] = []

    def talk(self, connection: socket.socket) -> None:
        head = request_from(connection).decode()
        if not head:  # under TLS 1.3 a client refuses a certificate after our part is done
            return
        self.heads.append(head)
        self.requests.append(head.split()[1])
        self.answers.get(head.split()[1], saying(404, b"{}"))(connection)

    def publish(self, *keys: object, **members: object) -> None:
        """Serve *keys*, and a discovery document with these *members* instead of the right ones."""
        document = {"issuer": self.url, "jwks_uri": self.url + JWKS} | members
        self.answers[DISCOVERY] = saying(200, json.dumps(document).encode())
        self.answers[JWKS] = saying(200, json.dumps({"keys": keys}).encode())


def saying(status: int, body: bytes, **headers: str) -> Answer:
    lines = {"Content-Length": str(len(body)), "Connection": "close"} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return lambda connection: connection.sendall(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body)


def without_length(body: bytes) -> Answer:
    """An answer that ends with its connection (RFC 9112, 6.3)."""

    def answer(connection: socket.socket) -> None:
        with suppress(OSError):  # the client leaves when it has had enough
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
            cast("ssl.SSLSocket", connection).unwrap()  # without TLS's own end, it would be broken off

    return answer


def padded_to(length: int, *keys: object) -> bytes:
    """A document of that many bytes."""
    body = json.dumps({"keys": keys}).encode()
    return body + b" " * (length - len(body))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def trusting(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With our authority, and without the proxies of whoever runs the tests."""
    trust(authority, monkeypatch, tmp_path / "authority.pem")
    for name in ("https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def trust(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))


def a_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[IssuerServer]:
    server = IssuerServer()
    with peer(server.talk, tls=a_context(authority)) as listening:
        server.url = f"https://{listening.host}:{listening.port}"
        yield server


def an_issuer(server: IssuerServer, **changes: Any) -> HttpsIssuer:
    whole: dict[str, Any] = {"issuer": server.url, "algorithm": RS256(), "timeout": PATIENCE}
    return HttpsIssuer(**whole | changes)


def refusal_of(issuer: HttpsIssuer) -> str:
    with pytest.raises(IssuerUnavailable) as refused:
        issuer.keys()
    assert str(refused.value) == refused.value.reason
    return refused.value.reason


# ---- Keys


@cache
def rsa_numbers(bits: int = 2048) -> rsa.RSAPublicNumbers:
    return rsa.generate_private_key(65537, bits).public_key().public_numbers()


@cache
def ec_numbers(curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePublicNumbers:
    return ec.generate_private_key(curve()).public_key().public_numbers()


def encoded(number: int, length: int | None = None) -> str:
    size = (number.bit_length() + 7) // 8 if length is None else length
    return urlsafe_b64encode(number.to_bytes(size)).rstrip(b"=").decode()


def an_rsa_key(kid: str = "k-1", *, bits: int = 2048, **members: object) -> Jwk:
    numbers = rsa_numbers(bits)
    key = {"kid": kid, "kty": "RSA", "n": encoded(numbers.n), "e": encoded(numbers.e)}
    return key | {"use": "sig", "alg": "RS256"} | members


def an_ec_key(kid: str = "k-1", **members: object) -> Jwk:
    numbers = ec_numbers(ec.SECP256R1)
    key = {"kid": kid, "kty": "EC", "crv": "P-256", "x": encoded(numbers.x, 32), "y": encoded(numbers.y, 32)}
    return key | {"use": "sig", "alg": "ES256"} | members


def kept(key: Jwk) -> Mapping[str, str]:
    """What is kept of *key*."""
    return {name: key[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in key}


def without(key: Jwk, *names: str) -> Jwk:
    return {name: value for name, value in key.items() if name not in names}


# ---- Where the keys are


def test_the_keys_are_where_the_discovery_document_says(server: IssuerServer) -> None:
    key = an_rsa_key(x5c=["certificate"], x5t="thumbprint")
    server.publish(key, an_rsa_key("k-2"))

    keys = an_issuer(server).keys()

    assert keys == {"k-1": kept(key), "k-2": kept(key)}
    assert server.requests == [DISCOVERY, JWKS]


def test_what_is_asked_has_no_body_no_cookie_and_no_credentials(server: IssuerServer) -> None:
    server.publish(an_rsa_key())

    an_issuer(server).keys()

    for head in server.heads:
        names = [line.partition(":")[0] for line in head.split("\r\n")[1:] if line]
        assert head.startswith("GET ")
        assert {"Host", "Accept"} <= {*names} <= {"Host", "Accept", "User-Agent"}
        assert "Accept: application/json\r\n" in head


@pytest.mark.parametrize("path", ["", "/", "/realms/acme", "/realms/acme/"])
def test_the_document_is_below_the_issuers_url(server: IssuerServer, path: str) -> None:
    """OpenID Connect Discovery 1.0, 4.1."""
    issuer = server.url + path
    server.publish(an_rsa_key(), issuer=issuer)
    server.answers[path.rstrip("/") + DISCOVERY] = server.answers[DISCOVERY]

    assert an_issuer(server, issuer=issuer).keys()
    assert server.requests == [path.rstrip("/") + DISCOVERY, JWKS]


def test_with_a_jwks_url_nothing_is_discovered(server: IssuerServer) -> None:
    server.publish(an_rsa_key())

    keys = an_issuer(server, issuer="https://elsewhere.invalid", jwks_url=server.url + JWKS).keys()

    assert list(keys) == ["k-1"]
    assert server.requests == [JWKS]


@pytest.mark.parametrize("claimed", ["https://other.example.com", "", None, 7, ["https://other.example.com"]])
def test_the_document_of_another_issuer_is_refused(server: IssuerServer, claimed: object) -> None:
    server.publish(an_rsa_key(), issuer=claimed)

    assert refusal_of(an_issuer(server)) == "OtherIssuer"
    assert server.requests == [DISCOVERY]


def test_an_issuer_differs_by_a_slash(server: IssuerServer) -> None:
    server.publish(an_rsa_key(), issuer=f"{server.url}/")

    assert refusal_of(an_issuer(server)) == "OtherIssuer"


@pytest.mark.parametrize("url", [None, 7, ["https://127.0.0.1/keys"], {}])
def test_a_document_without_the_keys_url_is_refused(server: IssuerServer, url: object) -> None:
    server.publish(an_rsa_key(), jwks_uri=url)

    assert refusal_of(an_issuer(server)) == "NoKeys"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/keys", "NotHttps"),
        ("file:///etc/passwd", "NotHttps"),
        ("ftp://127.0.0.1/keys", "NotHttps"),
        ("127.0.0.1:9/keys", "NotHttps"),
        ("https://127.0.0.1:port/keys", "NoUrl"),
        ("https://", "NoUrl"),
        ("", "NoUrl"),
        ("https://127.0.0.1:9/a key", "NoUrl"),
        ("https://127.0.0.1:9/kéys", "NoUrl"),
        ("https://127.0.0.1:9/\ud800", "NoUrl"),
        ("https://127.0.0.1:9/\x00", "NoUrl"),
        ("https://127.0.0.1:9/keys\r\nHost: other", "NoUrl"),
        ("https://127.0.0.1:9/keys", "NoConnection"),  # the discard port
        ("https://nowhere.invalid/keys", "HostNotFound"),
    ],
)
def test_keys_are_fetched_from_an_https_url_alone(server: IssuerServer, url: str, reason: str) -> None:
    server.publish(an_rsa_key(), jwks_uri=url)

    assert refusal_of(an_issuer(server)) == reason
    assert refusal_of(an_issuer(server, jwks_url=url or "https://")) == reason


# ---- How they are fetched


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", [DISCOVERY, JWKS])
def test_a_redirection_is_not_followed(server: IssuerServer, status: int, path: str) -> None:
    server.publish(an_rsa_key())
    server.answers["/moved"] = server.answers[path]
    server.answers[path] = saying(status, b"", Location="/moved")

    assert refusal_of(an_issuer(server)) == str(status)
    assert "/moved" not in server.requests


def test_a_redirection_to_another_host_is_not_followed(server: IssuerServer, authority: trustme.CA) -> None:
    elsewhere = IssuerServer()
    with peer(elsewhere.talk, tls=a_context(authority, "localhost")) as listening:
        server.publish(an_rsa_key())
        server.answers[JWKS] = saying(302, b"", Location=f"https://localhost:{listening.port}{JWKS}")

        assert refusal_of(an_issuer(server)) == "302"
        assert listening.connections == 0


@pytest.mark.parametrize("status", [201, 204, 400, 404, 429, 500, 503])
@pytest.mark.parametrize("path", [DISCOVERY, JWKS])
def test_any_other_status_than_200_is_a_refusal(server: IssuerServer, status: int, path: str) -> None:
    server.publish(an_rsa_key())
    server.answers[path] = saying(status, b"" if status == 204 else json.dumps({"keys": []}).encode())

    assert refusal_of(an_issuer(server)) == str(status)


@pytest.mark.parametrize("answer", [lambda body: saying(200, body), without_length])
def test_a_document_has_at_most_256_kb(server: IssuerServer, answer: Callable[[bytes], Answer]) -> None:
    issuer = an_issuer(server, jwks_url=server.url + JWKS)
    server.answers[JWKS] = answer(padded_to(MAX_DOCUMENT, an_rsa_key()))

    assert list(issuer.keys()) == ["k-1"]

    server.answers[JWKS] = answer(padded_to(MAX_DOCUMENT + 1, an_rsa_key()))

    assert refusal_of(issuer) == "TooLong"


def test_a_document_without_end_is_left(server: IssuerServer) -> None:
    def without_end(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:  # until the client leaves
            connection.sendall(b" " * 65536)

    server.answers[JWKS] = without_end

    assert refusal_of(an_issuer(server, jwks_url=server.url + JWKS)) == "TooLong"


def test_a_compressed_document_is_not_unpacked(server: IssuerServer) -> None:
    server.answers[JWKS] = saying(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip")

    assert refusal_of(an_issuer(server, jwks_url=server.url + JWKS)) == "NoJson"


@pytest.mark.parametrize("begins", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_an_answer_that_comes_byte_by_byte_ends_in_time(server: IssuerServer, begins: bytes) -> None:
    timeout = timedelta(milliseconds=700)

    def byte_by_byte(connection: socket.socket) -> None:
        connection.settimeout(0.05)
        connection.sendall(begins)
        while True:
            with suppress(TimeoutError):
                connection.recv(1)
                return  # the client has left
            connection.sendall(b" ")

    server.answers[JWKS] = byte_by_byte
    issuer = an_issuer(server, jwks_url=server.url + JWKS, timeout=timeout)
    began = time.monotonic()

    assert refusal_of(issuer) == "TimedOut"
    assert timeout.total_seconds() * 0.9 < time.monotonic() - began < 10


def test_an_issuer_that_says_nothing_ends_in_time(server: IssuerServer) -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(1)

    server.answers[DISCOVERY] = silent

    assert refusal_of(an_issuer(server, timeout=timedelta(milliseconds=300))) == "TimedOut"


def test_an_answer_that_breaks_off_has_curls_own_number(server: IssuerServer) -> None:
    server.answers[DISCOVERY] = saying(200, b"{}", **{"Content-Length": "100"})

    assert refusal_of(an_issuer(server)) in {"curl 18", "curl 56"}  # CURLE_PARTIAL_FILE, CURLE_RECV_ERROR


def test_what_is_no_http_is_refused(authority: trustme.CA) -> None:
    with peer(always_saying(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), tls=a_context(authority)) as other:
        issuer = HttpsIssuer(f"https://{other.host}:{other.port}", RS256(), timeout=PATIENCE)

        assert refusal_of(issuer) == "NotHttps"


# ---- Certificates


def test_a_certificate_of_an_unknown_authority_is_refused(
    server: IssuerServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.publish(an_rsa_key())
    trust(trustme.CA(), monkeypatch, tmp_path / "other.pem")

    assert refusal_of(an_issuer(server)) == "WrongCertificate"
    assert server.requests == []


def test_a_certificate_of_another_host_is_refused(authority: trustme.CA) -> None:
    server = IssuerServer()
    with peer(server.talk, tls=a_context(authority, "issuer.example.com")) as listening:
        server.url = f"https://{listening.host}:{listening.port}"
        server.publish(an_rsa_key())

        assert refusal_of(an_issuer(server)) == "WrongCertificate"
    assert server.requests == []


def test_without_a_file_of_authorities_those_of_curl_count(
    server: IssuerServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.publish(an_rsa_key())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))

    assert refusal_of(an_issuer(server)) == "WrongCertificate"
    assert server.requests == []


# ---- What is taken


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "NoJson"),
        (b"<html>Sign in</html>", "NoJson"),
        (b'{"keys": [', "NoJson"),
        (b"\xff\xfe\xfa", "NoJson"),
        (b"[" * 100_000, "NoJson"),
        (b'{"keys": ' + b"9" * 5000 + b"}", "NoJson"),
        (b"[]", "NoJson"),
        (b"null", "NoJson"),
        (b'"keys"', "NoJson"),
        (b"{}", "NoKeys"),
        (b'{"keys": null}', "NoKeys"),
        (b'{"keys": {}}', "NoKeys"),
        (b'{"keys": "all"}', "NoKeys"),
        (b'{"keys": []}', "NoUsableKeys"),
        (b'{"keys": [null, 7, "key", [], {}]}', "NoUsableKeys"),
    ],
    ids=lambda it: it[:24].decode(errors="replace") if isinstance(it, bytes) else "",
)
def test_a_document_without_keys_is_refused(server: IssuerServer, body: bytes, reason: str) -> None:
    server.answers[JWKS] = saying(200, body)

    assert refusal_of(an_issuer(server, jwks_url=server.url + JWKS)) == reason


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_a_discovery_document_that_is_none_is_refused(server: IssuerServer, body: bytes) -> None:
    server.answers[DISCOVERY] = saying(200, body)

    assert refusal_of(an_issuer(server)) == "NoJson"


def an_off_curve_key() -> Jwk:
    numbers = ec_numbers(ec.SECP256R1)
    return an_ec_key(y=encoded(numbers.y ^ 1, 32))


def a_p384_key(**members: object) -> Jwk:
    numbers = ec_numbers(ec.SECP384R1)
    key = an_ec_key(crv="P-384", x=encoded(numbers.x, 48), y=encoded(numbers.y, 48))
    return without(key, "alg") | members


UNUSABLE_FOR_RS256: dict[str, Callable[[], Jwk]] = {
    "no kid": lambda: without(an_rsa_key(), "kid"),
    "a number as kid": lambda: an_rsa_key() | {"kid": 7},
    "a long kid": lambda: an_rsa_key("k" * 129),
    "1024 bits": lambda: an_rsa_key(bits=1024),
    "2047 bits": lambda: an_rsa_key(n=encoded(rsa_numbers().n >> 1 | 1)),
    "8193 bits": lambda: an_rsa_key(n=encoded(1 << 8192 | 1)),
    "exponent 1": lambda: an_rsa_key(e=encoded(1)),
    "an even exponent": lambda: an_rsa_key(e=encoded(65536)),
    "no modulus": lambda: without(an_rsa_key(), "n"),
    "an empty modulus": lambda: an_rsa_key(n=""),
    "a number as modulus": lambda: an_rsa_key(n=rsa_numbers().n),
    "padding": lambda: an_rsa_key(e="AQAB===="),
    "no kind": lambda: without(an_rsa_key(), "kty"),
    "a secret key": lambda: an_rsa_key(kty="oct", k="c2VjcmV0"),
    "use=enc": lambda: an_rsa_key(use="enc"),
    "no use": lambda: an_rsa_key(use=None),
    "alg of another hash": lambda: an_rsa_key(alg="RS512"),
    "alg of another padding": lambda: an_rsa_key(alg="PS256"),
    "alg of encryption": lambda: an_rsa_key(alg="RSA-OAEP"),
    "alg of a curve": lambda: an_rsa_key(alg="ES256"),
    "a list as alg": lambda: an_rsa_key(alg=["RS256"]),
    "key_ops without verify": lambda: an_rsa_key(key_ops=["encrypt", "wrapKey"]),
    "no key_ops": lambda: an_rsa_key(key_ops=[]),
    "a text as key_ops": lambda: an_rsa_key(key_ops="verify"),
    "a curve": an_ec_key,
}
UNUSABLE_FOR_ES256: dict[str, Callable[[], Jwk]] = {
    "another curve": a_p384_key,
    "another curve under our name": lambda: a_p384_key(crv="P-256"),
    "our curve under another name": lambda: an_ec_key(crv="P-384"),
    "secp256k1": lambda: an_ec_key(crv="secp256k1"),
    "no curve": lambda: without(an_ec_key(), "crv"),
    "a point off the curve": an_off_curve_key,
    "the point at infinity": lambda: an_ec_key(x=encoded(0, 32), y=encoded(0, 32)),
    "a short coordinate": lambda: an_ec_key(x=encoded(1, 31)),
    "no y": lambda: without(an_ec_key(), "y"),
    "an Edwards curve": lambda: {"kid": "k-1", "kty": "OKP", "crv": "Ed25519", "x": encoded(1, 32)},
    "kty of the other kind": lambda: an_ec_key(kty="RSA"),
    "alg of another curve": lambda: an_ec_key(alg="ES384"),
    "use=enc": lambda: an_ec_key(use="enc"),
    "RSA": an_rsa_key,
}


@pytest.mark.parametrize("make", UNUSABLE_FOR_RS256.values(), ids=UNUSABLE_FOR_RS256)
def test_a_key_that_checks_no_rs256_signature_is_left_out(
    server: IssuerServer, make: Callable[[], Jwk]
) -> None:
    issuer = an_issuer(server, jwks_url=server.url + JWKS)
    server.publish(make())

    assert refusal_of(issuer) == "NoUsableKeys"

    server.publish(make(), good := an_rsa_key("good"))

    assert issuer.keys() == {"good": kept(good)}


@pytest.mark.parametrize("make", UNUSABLE_FOR_ES256.values(), ids=UNUSABLE_FOR_ES256)
def test_a_key_that_checks_no_es256_signature_is_left_out(
    server: IssuerServer, make: Callable[[], Jwk]
) -> None:
    issuer = an_issuer(server, jwks_url=server.url + JWKS, algorithm=ES256())
    server.publish(make())

    assert refusal_of(issuer) == "NoUsableKeys"

    server.publish(make(), good := an_ec_key("good"))

    assert issuer.keys() == {"good": kept(good)}


@pytest.mark.parametrize("kid", ["", "k" * 128, "abc/+=", "é🔑"])
@pytest.mark.parametrize("members", [{"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}])
def test_a_key_that_checks_signatures_is_taken(
    server: IssuerServer, kid: str, members: dict[str, Any]
) -> None:
    server.publish(key := without(an_rsa_key(kid), "use", "alg") | members)

    assert an_issuer(server).keys() == {kid: kept(key)}


@pytest.mark.parametrize("bits", [3072, 4096])
def test_a_longer_key_is_taken(server: IssuerServer, bits: int) -> None:
    server.publish(key := an_rsa_key(bits=bits))

    assert an_issuer(server).keys() == {"k-1": kept(key)}


def test_a_key_that_is_listed_twice_is_one(server: IssuerServer) -> None:
    server.publish(an_rsa_key(x5t="one"), an_rsa_key(x5t="other"), an_rsa_key(use="enc", n="of encryption"))

    assert an_issuer(server).keys() == {"k-1": kept(an_rsa_key())}


def test_an_id_of_two_keys_is_refused(server: IssuerServer) -> None:
    server.publish(an_rsa_key(), an_rsa_key("k-2"), an_rsa_key(bits=3072))

    assert refusal_of(an_issuer(server)) == "AmbiguousKeys"


def test_there_are_at_most_100_keys(server: IssuerServer) -> None:
    keys = [an_ec_key(f"k-{number}") for number in range(MAX_KEYS + 1)]
    issuer = an_issuer(server, algorithm=ES256())
    server.publish(*keys[:-1])

    assert len(issuer.keys()) == MAX_KEYS

    server.publish(*keys)

    assert refusal_of(issuer) == "TooManyKeys"


# ---- The function that fetches them


def test_the_keys_function_keeps_the_keys_where_handshakes_read_them(
    server: IssuerServer, dynamodb: "DynamoDBClient", dynamodb_local: str
) -> None:
    table = f"Keys-{uuid4().hex}"
    dynamodb.create_table(**table_properties("KeysTable") | {"TableName": table})
    environ = {
        "TOKEN_ISSUER": server.url,
        "TOKEN_AUDIENCE": "switchboard",
        "KEYS_TABLE": table,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_local,
        **UNHURRIED,
    }
    handler = KeysHandler(Keys(settings=Settings.from_environ(environ), environ=environ).refresh_keys())
    store = DynamoDBKeyStore(SdkTransport(dynamodb), table, server.url)

    server.publish(key := an_rsa_key())
    refreshed = handler({}, None)
    kept_before = store.load()
    server.answers[JWKS] = saying(503, b"")
    failed = handler({}, None)

    assert refreshed == {"event": "keys.refreshed", "keyIds": ["k-1"]}
    assert failed == {"event": "keys.not_refreshed", "reason": "503"}
    assert kept_before is not None
    assert kept_before.keys == {"k-1": kept(key)}
    assert timedelta(0) <= SystemClock().now() - kept_before.fetched_at < PATIENCE
    assert store.load() == kept_before
