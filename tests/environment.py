"""The environment of the tests, without the user's AWS and terminal settings."""

import os
from collections.abc import MutableMapping

from infra.environment import clear_aws_settings

_MAKE = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
"""What `make test` gives to a make that a test starts: its own ARGS among them."""

USERS = {name: value for name, value in os.environ.items() if name not in _MAKE}
"""The user's own environment, for the commands of the README."""

UNHURRIED = {"STORE_ATTEMPTS": "1", "STORE_READ_TIMEOUT_MS": "20000"}
"""Settings for a database on a busy machine: it may answer late, and a retry may get another answer."""

_SETTINGS = (
    "ACCOUNTS_CLAIM",
    "ACCOUNT_INDEX",
    "ADMISSION",
    "ALLOWED_ORIGINS",
    "CATCH_UP_QUEUE",
    "CLIENTS_CLAIM",
    "CLIENT_ATTRIBUTES",
    "CLIENT_INDEX",
    "CONNECTIONS_PER_CLIENT",
    "CONNECTIONS_TABLE",
    "DELIVERIES_TABLE",
    "DUPLICATES",
    "HISTORY_MINUTES",
    "HISTORY_TABLE",
    "INDEX_LAG_SECONDS",
    "JWKS_URL",
    "KEEP_ALIVE",
    "KEYS_TABLE",
    "MESSAGE_QUEUE",
    "PRESENCE_BUS",
    "PRESENCE_TABLE",
    "REGIONS_CLAIM",
    "SEND_RATE",
    "TICKETS_TABLE",
    "TRUSTED_PROXIES",
    "TTL_HOURS",
    "UNSCOPED",
)
_TERMINAL = ("COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
_NAMES = frozenset((*_SETTINGS, *_TERMINAL, "PYTEST_ADDOPTS"))
_REPLACEMENTS = {
    "AWS_ACCESS_KEY_ID": "local",  # DynamoDB Local wants letters and digits only
    "AWS_SECRET_ACCESS_KEY": "local",
    "NO_PROXY": "localhost,127.0.0.1,::1",  # a proxy is for downloads
    "no_proxy": "localhost,127.0.0.1,::1",
}


def clear_user_settings(environ: MutableMapping[str, str]) -> None:
    """Remove the user's settings from *environ*, and set invalid credentials."""
    clear_aws_settings(environ)
    for name in list(environ):
        if name in _NAMES or name.startswith(("STORE", "SWEEP_", "TOKEN_")):
            del environ[name]
    environ.update(_REPLACEMENTS)
