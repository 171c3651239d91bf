"""The environment of what runs on this machine alone: no AWS setting or file of the user's is read."""

import os
from collections.abc import MutableMapping

_NO_FILES = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "BOTO_CONFIG": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def forget_aws_settings(environ: MutableMapping[str, str]) -> None:
    """Take the SDK's variables out of *environ*, and name no file that it could read instead."""
    for name in [name for name in environ if name.startswith(("AWS_", "BOTO"))]:
        del environ[name]
    environ.update(_NO_FILES)
