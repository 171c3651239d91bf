"""An environment without the user's AWS settings and files, for what runs on this machine alone."""

import os
from collections.abc import MutableMapping

_NO_FILES = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "BOTO_CONFIG": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def clear_aws_settings(environ: MutableMapping[str, str]) -> None:
    """Remove the SDK's variables from *environ*, and point it at empty files."""
    for name in [name for name in environ if name.startswith(("AWS_", "BOTO"))]:
        del environ[name]
    environ.update(_NO_FILES)
