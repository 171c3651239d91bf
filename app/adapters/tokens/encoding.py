"""Base64url and JSON as tokens have them (RFC 7515, 2): one form for each value, and nothing else."""

import json
from binascii import Error, a2b_base64, b2a_base64


class Malformed(ValueError):
    """A text that is not in that form."""


def bytes_in(text: str) -> bytes:
    """Return the bytes that Base64url *text* stands for.

    Raises:
        Malformed: it is not the one text for them, without padding.
    """
    try:
        encoded = text.encode("ascii").translate(_TO_BASE64)
        value = a2b_base64(encoded + b"=" * (-len(encoded) % 4), strict_mode=True)
    except (Error, UnicodeEncodeError) as error:
        raise Malformed from error
    # Unused bits at the end may be anything for the decoder: another text would be as good a signature.
    if not value or b2a_base64(value, newline=False).rstrip(b"=") != encoded:
        raise Malformed
    return value


def object_in(text: str) -> dict[str, object]:
    """Return the JSON object in Base64url *text*.

    Raises:
        Malformed: it is none, names a member twice, or has what JSON has not, such as ``NaN``.
    """
    try:
        value = json.loads(bytes_in(text).decode(), object_pairs_hook=_members, parse_constant=_refuse)
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Malformed from error
    if not isinstance(value, dict):
        raise Malformed
    return value


# '+' and '/' are not in Base64url, and become what no Base64 has
_TO_BASE64 = bytes.maketrans(b"-_+/", b"+/!!")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise Malformed
    return members


def _refuse(_: str) -> None:
    raise Malformed
