"""ES256: ECDSA on the curve P-256 with SHA-256 (RFC 7518, 3.4)."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from app.adapters.tokens.encoding import bytes_in
from app.adapters.tokens.keys import UnusableKey
from app.domain.tokens import Key

_LENGTH = 32  # bytes of a coordinate, and of each of a signature's two numbers (RFC 7518, 3.4 and 6.2.1.2)


class ES256:
    """The algorithm, by OpenSSL."""

    name = "ES256"
    members: tuple[str, ...] = ("kty", "crv", "x", "y")

    def holds(self, key: Key, signature: bytes, signed: bytes) -> bool:
        public = _public(key)
        if len(signature) != 2 * _LENGTH:
            return False
        r, s = int.from_bytes(signature[:_LENGTH]), int.from_bytes(signature[_LENGTH:])
        try:
            public.verify(encode_dss_signature(r, s), signed, _EcdsaWithSha256())
        except InvalidSignature:
            return False
        return True

    def check_key(self, key: Key) -> None:
        _public(key)


class _EcdsaWithSha256(ECDSA):
    """ECDSA(SHA256()), whose making would import the whole backend of OpenSSL: a tenth of a start."""

    algorithm = SHA256()  # a property there

    def __init__(self) -> None:
        """Leave out what only signing needs."""


def _public(key: Key) -> EllipticCurvePublicKey:
    try:
        x, y = bytes_in(key["x"]), bytes_in(key["y"])
        if key["kty"] == "EC" and key["crv"] == "P-256" and len(x) == len(y) == _LENGTH:
            numbers = EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1())
            return numbers.public_key()
    except (KeyError, ValueError) as error:
        raise UnusableKey from error
    raise UnusableKey
