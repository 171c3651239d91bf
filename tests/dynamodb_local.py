"""DynamoDB Local, in a container or as a plain JVM, and tables in it as infra/template.yaml has them.

The container is the public image (DYNAMODB_LOCAL_IMAGE names another). The
JVM is for machines that have Java and npm but no Docker: the same program,
fetched by version and checksum into the user's cache. Its licence forbids
redistribution, so it never comes into the repository.
"""

import hashlib
import json
import os
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen
from uuid import uuid4

import boto3
import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from tests.lanes import docker_is_missing, leave_out, missing_commands
from tests.template import table_properties

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

IMAGE = os.environ.get("DYNAMODB_LOCAL_IMAGE", "amazon/dynamodb-local:3.3.1")
REGION = "eu-central-1"
ACCESS_KEY = "local"  # letters and digits only: DynamoDB Local refuses others

_PACKAGE = "amplify-dynamodb-simulator@2.9.30"  # npm; carries DynamoDB Local 1.25.1 in package/emulator
_SHA256 = "3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "switchboard"
