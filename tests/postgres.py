"""PostgreSQL 18 for the adapter in tests/extension: a container, or a wheel's binaries without Docker."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcontainers.community.postgres import PostgresContainer

from infra.process import uv
from infra.stack import LocalStackFailure
from tests.docker_image import published
from tests.environment import USERS
from tests.lanes import image_is_missing, leave_out

EXTENSION = Path(__file__).parent / "extension"
IMAGE = os.environ.get("POSTGRES_IMAGE", "postgres:18.4")
DATABASE = "switchboard"
"""The name of the container's database, its user and the user's password."""

_ENVIRONMENT = EXTENSION / ".venv"
_PORT = 5432


def installed_packages() -> str:
    """Make the adapter's environment, and return the PYTHONPATH of the adapter and all that it imports."""
    try:
        uv("sync", "--quiet", "--locked", "--project", str(EXTENSION), "--python", "3.13")
    except LocalStackFailure as failure:
        leave_out(f"the environment of tests/extension can't be made: {failure}")
    (packages,) = _ENVIRONMENT.glob("lib/python*/site-packages")
    return f"{EXTENSION}{os.pathsep}{packages}"


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a PostgreSQL until the block ends; yield its URL."""
    if image_is_missing(IMAGE) is None:
        container = a_container()
        with published(container, _PORT):
            yield container.get_connection_url()
    else:
        with subprocess.Popen(
            [_ENVIRONMENT / "bin" / "python", "serve.py"],
            cwd=EXTENSION,
            env={"PATH": USERS["PATH"], "LC_ALL": "C"},
            stdin=subprocess.PIPE,  # closes when this process ends, and ends the server
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout
            url = server.stdout.readline().strip()
            assert url, "PostgreSQL did not start"
            yield url
            server.communicate()


def a_container() -> PostgresContainer:
    return PostgresContainer(IMAGE, username=DATABASE, password=DATABASE, dbname=DATABASE, driver=None)
