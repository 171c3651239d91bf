"""The environment that tests run in: without the AWS settings, proxies and colours of whoever runs them."""

import os
from collections.abc import MutableMapping

from infra.environment import forget_aws_settings

USERS = dict(os.environ)
"""The environment as the user has it: for downloads, and for the commands of the README."""

_SETTINGS = (
    "CLIENT_ATTRIBUTES",
    "CONNECTIONS_TABLE",
    "DUPLICATES",
    "PRESENCE_TABLE",
    "TRUSTED_PROXIES",
    "TTL_HOURS",
)
_TERMINAL = ("COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
_NAMES = frozenset((*_SETTINGS, *_TERMINAL, "PYTEST_ADDOPTS"))
_NAMES_IN_ANY_CASE = frozenset({"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})


def forget_users_settings(environ: MutableMapping[str, str]) -> None:
    """Take out of *environ* what a test must not depend on, and put in credentials that open nothing."""
    forget_aws_settings(environ)
    for name in list(environ):
        if name in _NAMES or name.upper() in _NAMES_IN_ANY_CASE or name.startswith(("STORE", "SWEEP_")):
            del environ[name]
    # DynamoDB Local wants letters and digits only
    environ.update({"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"})
