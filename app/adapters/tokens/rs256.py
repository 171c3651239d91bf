"""RS256: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3)."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from app.adapters.tokens.encoding import bytes_in
from app.adapters.tokens.keys import UnusableKey
from app.domain.tokens import Key

_MIN_BITS = 2048  # RFC 7518, 3.3
_MAX_BITS = 8192  # a longer one takes too long to check


class RS256:
    """The algorithm, by OpenSSL."""

    name = "RS256"
    members: tuple[str, ...] = ("kty", "n", "e")

    def holds(self, key: Key, signature: bytes, signed: bytes) -> bool:
        try:
            _public(key).verify(signature, signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    def check_key(self, key: Key) -> None:
        _public(key)


def _public(key: Key) -> RSAPublicKey:
    try:
        modulus, exponent = (int.from_bytes(bytes_in(key[name])) for name in ("n", "e"))
        if key["kty"] == "RSA" and _MIN_BITS <= modulus.bit_length() <= _MAX_BITS:
            return RSAPublicNumbers(exponent, modulus).public_key()
    except (KeyError, ValueError) as error:
        raise UnusableKey from error
    raise UnusableKey
