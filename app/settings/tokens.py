"""The settings of tokens, which are read only where tokens are."""

from collections.abc import Mapping
from datetime import timedelta

from app.domain.tokens import TokenRules
from app.settings import InvalidSetting, choice, listed, whole_number

_NO_PUNCTUATION = {ord(it): None for it in "._-"}
_MAX_HOURS = 24
"""The longest that Cognito and, by default, Auth0 issue tokens for; an hour is usual."""


def token_issuer(environ: Mapping[str, str]) -> str:
    """Return the URL of the issuer.

    Raises:
        InvalidSetting: TOKEN_ISSUER is missing or malformed.
    """
    issuer = _https_url(environ, "TOKEN_ISSUER")
    if not issuer:
        raise InvalidSetting("TOKEN_ISSUER is missing: tokens are of one issuer, and it is the URL of that.")
    return issuer


def token_algorithm(environ: Mapping[str, str]) -> str:
    """Return the algorithm that signs tokens.

    Raises:
        InvalidSetting: TOKEN_ALGORITHM is none that is supported.
    """
    return choice(environ, "TOKEN_ALGORITHM", ("RS256", "ES256"))


def jwks_url(environ: Mapping[str, str]) -> str:
    """Return where the issuer's keys are; empty if its discovery document says it.

    Raises:
        InvalidSetting: JWKS_URL is malformed.
    """
    return _https_url(environ, "JWKS_URL")


def token_rules(environ: Mapping[str, str], *, unscoped_sees_all: bool = False) -> TokenRules:
    """Return what a token must say. Where *unscoped_sees_all*, no account means all accounts.

    Raises:
        InvalidSetting: a variable is missing or malformed.
    """
    audiences = tuple(listed(environ, "TOKEN_AUDIENCE"))
    if not audiences:
        raise InvalidSetting("TOKEN_AUDIENCE is missing: it names whom tokens must be for.")
    return TokenRules(
        issuer=token_issuer(environ),
        audiences=audiences,
        type=choice(environ, "TOKEN_TYPE", ("access", "id")),
        max_lifetime=timedelta(hours=whole_number(environ, "TOKEN_MAX_HOURS", _MAX_HOURS, most=7 * 24)),
        clients_claim=environ.get("CLIENTS_CLAIM", ""),
        accounts_claim=environ.get("ACCOUNTS_CLAIM", ""),
        regions_claim=environ.get("REGIONS_CLAIM", ""),
        unscoped_sees_all=unscoped_sees_all,
    )


def _https_url(environ: Mapping[str, str], name: str) -> str:
    url = environ.get(name, "")
    scheme, _, rest = url.partition("://")
    host, colon, port = rest.partition("/")[0].partition(":")
    # not by a pattern, whose compilation would take a start longer
    is_host = host.translate(_NO_PUNCTUATION).isalnum() and (port.isdecimal() or not colon)
    if url and not (scheme == "https" and is_host and url.isascii() and url.isprintable() and " " not in url):
        raise InvalidSetting(f"{name} must be an https URL.")
    return url
