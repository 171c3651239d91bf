"""A storage adapter from outside, on a real PostgreSQL: tests/extension, in an environment of its own."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from infra.process import CLOCK, find_uv
from tests.builders import Event, a_connect_event
from tests.environment import USERS
from tests.postgres import EXTENSION, installed_packages, running_postgres
from tests.thoroughness import REPEATABLE

ROOT = Path(__file__).parent.parent.parent

OWN_TESTS = "tests/extension/test_postgres.py"
CONTRACT = "make contract STORE=switchboard_postgres:storage PACKAGE=tests/extension"
"""The command of the README."""

[CONTRACT_TABLE] = re.findall(
    r"^\| contract of .*(?:\n\|.*)+", (EXTENSION / "README.md").read_text(), re.MULTILINE
)
"""What the adapter's README says of its result."""

pytestmark = pytest.mark.xdist_group("extension")


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    """The environment variables of a process that works with the adapter and its database."""
    packages = installed_packages()
    with running_postgres() as url:
        yield {
            **os.environ,
            "PYTHONPATH": packages,
            "STORE": "switchboard_postgres:storage",
            "POSTGRES_URL": url,
            "POSTGRES_CONNECTIONS": "8",
            "POSTGRES_TIMEOUT": "60",  # a busy machine is no broken promise
            "AWS_REGION": "eu-central-1",
        }


@pytest.fixture
def environ(database: Mapping[str, str]) -> Mapping[str, str]:
    """Those of `database`, which is empty: the tests come in any order, and the contract wants it so."""
    python("-c", _EMPTY, environ=database)
    return database


_EMPTY = (
    "import os; from switchboard_postgres import storage;"
    "made = storage(os.environ); made.reset(); made.close()"
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
    settings = {name: value for name, value in environ.items() if name.startswith("POSTGRES_")}
    command = [*shlex.split(CONTRACT), f"ARGS={' '.join(REPEATABLE)}"]

    result = subprocess.run(
        command, cwd=ROOT, env=USERS | settings, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "BROKEN" not in result.stdout
    assert f"\n{CONTRACT_TABLE}\n" in result.stdout


def test_its_readme_starts_a_database(tmp_path: Path) -> None:
    [commands] = re.findall(r"```sh\n(.*?)```", (EXTENSION / "README.md").read_text(), re.DOTALL)
    shutil.copy(ROOT / ".python-version", tmp_path)
    copy = shutil.copytree(EXTENSION, tmp_path / "extension", ignore=shutil.ignore_patterns(".venv"))

    result = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=copy,
        env=USERS | {"PATH": f"{Path(find_uv() or 'uv').parent}{os.pathsep}{USERS['PATH']}"},
        stdin=subprocess.DEVNULL,  # Ctrl-D
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("postgresql://")


def test_its_own_tests_pass(environ: Mapping[str, str]) -> None:
    # faketime(1) shifts a lock's time-out by as much as the calendar; and they show the adapter's own limits
    own = {name: it for name, it in environ.items() if not name.startswith((*CLOCK, "POSTGRES_TIMEOUT"))}

    result = python("-m", "pytest", "-p", "no:cacheprovider", OWN_TESTS, environ=own)

    assert " passed" in result.stdout


def test_handshakes_the_command_line_and_the_sweep_run_on_it(environ: Mapping[str, str]) -> None:
    now = int(time.time() * 1000)
    answers = [
        python("-c", _CONNECT, environ=environ, stdin=json.dumps(event)).stdout
        for event in (
            a_connection_event("new", now),
            a_connection_event("from-3-hours-ago", now - 3 * 3600 * 1000),
        )
    ]

    patient = {**environ, "SWEEP_GRACE_SECONDS": "3600"}  # then "new" is young on a busy machine, too
    swept = python("-m", "app", "sweep", environ=patient).stdout.splitlines()
    listed = python("-m", "app", "ls", "--json", environ=environ).stdout

    assert [json.loads(answer)["statusCode"] for answer in answers] == [200, 200]
    assert {"scanned 2", "young 1", "removed by age 1"} <= {" ".join(line.split()) for line in swept}
    assert [json.loads(line)["connectionId"] for line in listed.splitlines()] == ["new"]


def a_connection_event(name: str, connected_at: int) -> Event:
    event = a_connect_event(name)
    event["requestContext"]["connectedAt"] = connected_at
    return event
