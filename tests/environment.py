"""The environment that tests run in: without the AWS settings, proxies and colours of whoever runs them."""

import os
from collections.abc import MutableMapping

USERS = dict(os.environ)
"""The environment as the user has it: for downloads, and for the commands of the README."""

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
"""Credentials that open nothing; DynamoDB Local wants letters and digits only."""

_NAMES = frozenset({"CLIENT_ATTRIBUTES", "CONNECTIONS_TABLE", "DUPLICATES", "TRUSTED_PROXIES", "TTL_HOURS"})
_NAMES_IN_ANY_CASE = frozenset({"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})
_PREFIXES = (
    "AWS_",
    "BOTO",
    "PRESENCE_",
    "STORE",
    "SWEEP_",
    "CLICOLOR",
    "FORCE_COLOR",
    "NO_COLOR",
    "PYTEST_ADDOPTS",
)
_NOTHING_OF_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "BOTO_CONFIG": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def forget_users_settings(environ: MutableMapping[str, str]) -> None:
    """Take out of *environ* what the user may have set and a test must not depend on."""
    for name in list(environ):
        if name in _NAMES or name.upper() in _NAMES_IN_ANY_CASE or name.startswith(_PREFIXES):
            del environ[name]
    environ.update(_NOTHING_OF_AWS)
