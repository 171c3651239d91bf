"""The environment that tests run in: without the AWS and terminal settings of whoever runs them."""

import os
from collections.abc import MutableMapping

from infra.environment import forget_aws_settings

USERS = dict(os.environ)
"""The environment as the user has it: for the commands of the README."""

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
_HARMLESS = {
    "AWS_ACCESS_KEY_ID": "local",  # DynamoDB Local wants letters and digits only
    "AWS_SECRET_ACCESS_KEY": "local",
    "NO_PROXY": "localhost,127.0.0.1,::1",  # a proxy is for downloads
    "no_proxy": "localhost,127.0.0.1,::1",
}


def forget_users_settings(environ: MutableMapping[str, str]) -> None:
    """Take out of *environ* what a test must not depend on, and put in credentials that open nothing."""
    forget_aws_settings(environ)
    for name in list(environ):
        if name in _NAMES or name.startswith(("STORE", "SWEEP_")):
            del environ[name]
    environ.update(_HARMLESS)
