"""The settings of tokens, which are read only where tokens are."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from app.domain.tokens import TokenRules
from app.settings import InvalidSetting, choice, listed, whole_number

_HTTPS_URL = r"https://[A-Za-z0-9._-]+(?::[0-9]{1,5})?(?:/[!-~]*)?"
_MAX_HOURS = 24
"""An issuer's tokens last for an hour, as a rule, and a day at most (Cognito, Auth0, Entra)."""


class TokenSettings(NamedTuple):
    """Which tokens admit a client, by which algorithm they are signed, and where the issuer's keys are.

    ``jwks_url`` is empty if the issuer's discovery document says it.
    """

    rules: TokenRules
    algorithm: str
    jwks_url: str


def token_settings(environ: Mapping[str, str], *, unscoped_sees_all: bool = False) -> TokenSettings:
    """Read the settings of tokens. Where *unscoped_sees_all*, no account means all accounts.

    Raises:
        InvalidSetting: a variable is missing or malformed.
    """
    issuer, audiences = environ.get("TOKEN_ISSUER", ""), tuple(listed(environ, "TOKEN_AUDIENCE"))
    if not issuer or not audiences:
        raise InvalidSetting("Tokens need TOKEN_ISSUER and TOKEN_AUDIENCE.")
    for name in ("TOKEN_ISSUER", "JWKS_URL"):
        if (url := environ.get(name)) and not re.fullmatch(_HTTPS_URL, url):
            raise InvalidSetting(f"{name} must be an https URL.")
    rules = TokenRules(
        issuer=issuer,
        audiences=audiences,
        type=choice(environ, "TOKEN_TYPE", ("access", "id")),
        max_lifetime=timedelta(hours=whole_number(environ, "TOKEN_MAX_HOURS", _MAX_HOURS, most=7 * 24)),
        clients_claim=environ.get("CLIENTS_CLAIM", ""),
        accounts_claim=environ.get("ACCOUNTS_CLAIM", ""),
        regions_claim=environ.get("REGIONS_CLAIM", ""),
        unscoped_sees_all=unscoped_sees_all,
    )
    algorithm = choice(environ, "TOKEN_ALGORITHM", ("RS256", "ES256"))
    return TokenSettings(rules, algorithm, environ.get("JWKS_URL", ""))
