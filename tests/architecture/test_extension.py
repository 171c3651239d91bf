"""A storage adapter from outside, on a real PostgreSQL: tests/extension, in an environment of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.process import uv
from infra.stack import LocalStackFailure
from tests.builders import Event, a_connect_event
from tests.environment import USERS
from tests.lanes import leave_out

ROOT = Path(__file__).parent.parent.parent
EXTENSION = ROOT / "tests" / "extension"
PYTHON = EXTENSION / ".venv" / "bin" / "python"

pytestmark = pytest.mark.xdist_group("extension")


@pytest.fixture(scope="module")
def packages() -> str:
    """The folders of the extension and of what it needs, for PYTHONPATH."""
    try:
        uv("sync", "--quiet", "--locked", "--project", str(EXTENSION), "--python", sys.executable)
    except LocalStackFailure as failure:
        leave_out(f"the extension's environment can't be had: {failure}")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    return f"{EXTENSION}{os.pathsep}{site}"


@contextmanager
def a_database() -> Iterator[str]:
    """A PostgreSQL of one's own; its URL."""
    with subprocess.Popen(
        [PYTHON, "serve.py"],
        cwd=EXTENSION,
        env={"PATH": USERS["PATH"], "LC_ALL": "C"},
        stdin=subprocess.PIPE,  # closes when this process ends, and ends the server
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        yield server.stdout.readline().strip()
        server.communicate()


@pytest.fixture(scope="module")
def environ(packages: str) -> Iterator[dict[str, str]]:
    with a_database() as url:
        environ = {
            **os.environ,
            "PYTHONPATH": packages,
            "STORE": "switchboard_postgres:storage",
            "POSTGRES_URL": url,
            "POSTGRES_CONNECTIONS": "8",
            "AWS_REGION": "eu-central-1",
        }
        yield environ


_EMPTY = (
    "import os; from switchboard_postgres import storage;"
    "made = storage(os.environ); made.create(); made.reset(); made.close()"
)
_CONNECT = (
    "import json, sys; from app.entrypoints.aws_lambda import connect;"
    "print(json.dumps(connect(json.load(sys.stdin), None)))"
)


def python(
    *arguments: str, environ: Mapping[str, str], stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        input=stdin,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def test_it_keeps_every_promise(environ: Mapping[str, str]) -> None:
    python("-c", _EMPTY, environ=environ)
    options = ("--quiet", "--no-header", "-p", "no:cacheprovider", "-W", "default")

    result = python(
        *("-m", "pytest", *options, "tests/contract"), environ={**environ, "CONTRACT_STORE": environ["STORE"]}
    )

    assert "BROKEN" not in result.stdout
    assert "| ConnectionStore: add, remove, tombstone | 23 | 23 |" in result.stdout


def test_handshakes_the_command_line_and_the_sweep_run_on_it(environ: Mapping[str, str]) -> None:
    python("-c", _EMPTY, environ=environ)
    now = int(time.time() * 1000)
    answers = [
        python("-c", _CONNECT, environ=environ, stdin=json.dumps(event)).stdout
        for event in (
            a_connection_event("new", now),
            a_connection_event("from-3-hours-ago", now - 3 * 3600 * 1000),
        )
    ]

    swept = python("-m", "app", "sweep", environ=environ).stdout.splitlines()
    listed = python("-m", "app", "ls", "--json", environ=environ).stdout

    assert [json.loads(answer)["statusCode"] for answer in answers] == [200, 200]
    assert {"scanned 2", "young 1", "removed by age 1"} <= {" ".join(line.split()) for line in swept}
    assert [json.loads(line)["connectionId"] for line in listed.splitlines()] == ["new"]


def a_connection_event(name: str, connected_at: int) -> Event:
    event = a_connect_event(name)
    event["requestContext"]["connectedAt"] = connected_at
    return event
