"""The issuer over HTTPS: its discovery document (OpenID Connect Discovery 1.0) and its keys."""

import json
import ssl
from collections.abc import Mapping
from datetime import timedelta
from io import BytesIO

import pycurl

from app.adapters.tokens.algorithm import Algorithm
from app.adapters.tokens.keys import UnusableKey, usable_key
from app.domain.errors import IssuerUnavailable
from app.domain.tokens import Key

MAX_DOCUMENT = 256 * 1024
"""Bytes of one answer. Issuers have some ten keys, of under 2 KB with their certificates."""
MAX_KEYS = 100
"""Keys of one issuer: far more than any has, and at their longest less than a DynamoDB item's 400 KB."""
_MAX_KEY_ID = 128  # characters
_OK = 200


class HttpsIssuer:
    """Issuer whose tokens are signed by *algorithm*.

    *jwks_url* is where its keys are; the default is what its discovery document
    says. Each request is over HTTPS, ends within *timeout*, and is redirected
    nowhere. Certificates are checked by the authorities in the file that
    SSL_CERT_FILE names, or by the system's.
    """

    def __init__(
        self,
        issuer: str,
        algorithm: Algorithm,
        *,
        jwks_url: str = "",
        timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._algorithm = algorithm
        self._timeout = timeout
        # libcurl would look where its own build has a bundle
        self._authorities = ssl.get_default_verify_paths().cafile

    def keys(self) -> Mapping[str, Key]:
        listed = self._document(self._jwks_url or self._discovered()).get("keys")
        if not isinstance(listed, list):
            raise IssuerUnavailable("NoKeys")
        usable: dict[str, Key] = {}
        for jwk in listed:
            key_id = jwk.get("kid") if isinstance(jwk, dict) else None
            if not isinstance(key_id, str) or len(key_id) > _MAX_KEY_ID:
                continue
            try:
                key = usable_key(jwk, self._algorithm)
            except UnusableKey:
                continue
            if usable.setdefault(key_id, key) != key:
                raise IssuerUnavailable("AmbiguousKeys")
        if not 1 <= len(usable) <= MAX_KEYS:
            raise IssuerUnavailable("TooManyKeys" if usable else "NoUsableKeys")
        return usable

    def _discovered(self) -> str:
        document = self._document(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise IssuerUnavailable("OtherIssuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise IssuerUnavailable("NoKeys")
        return url

    def _document(self, url: str) -> dict[str, object]:
        body = BytesIO()

        def receive(data: bytes) -> int:
            # anything but the number of bytes ends the transfer
            return body.write(data) if body.tell() + len(data) <= MAX_DOCUMENT else 0

        curl = pycurl.Curl()
        try:
            curl.setopt(pycurl.NOSIGNAL, 1)  # its time-outs must not use the process's only alarm
            curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
            curl.setopt(pycurl.URL, url)
            if self._authorities is not None:
                curl.setopt(pycurl.CAINFO, self._authorities)
            curl.setopt(pycurl.TIMEOUT_MS, self._timeout // timedelta(milliseconds=1))
            curl.setopt(pycurl.HTTPHEADER, ["Accept: application/json"])
            curl.setopt(pycurl.WRITEFUNCTION, receive)
            curl.perform()
            status = curl.getinfo(pycurl.RESPONSE_CODE)
        except pycurl.error as error:
            raise IssuerUnavailable(_REASONS.get(error.args[0], f"curl {error.args[0]}")) from error
        except ValueError as error:  # no ASCII, or a NUL
            raise IssuerUnavailable("NoUrl") from error
        finally:
            curl.close()
        if status != _OK:
            raise IssuerUnavailable(str(status))
        try:
            document = json.loads(body.getvalue())
        except (ValueError, RecursionError) as error:
            raise IssuerUnavailable("NoJson") from error
        if not isinstance(document, dict):
            raise IssuerUnavailable("NoJson")
        return document


_REASONS: dict[int | str, str] = {
    pycurl.E_UNSUPPORTED_PROTOCOL: "NotHttps",
    pycurl.E_URL_MALFORMAT: "NoUrl",
    pycurl.E_COULDNT_RESOLVE_HOST: "HostNotFound",
    pycurl.E_COULDNT_CONNECT: "NoConnection",
    pycurl.E_OPERATION_TIMEDOUT: "TimedOut",
    pycurl.E_PEER_FAILED_VERIFICATION: "WrongCertificate",
    pycurl.E_WRITE_ERROR: "TooLong",
}
