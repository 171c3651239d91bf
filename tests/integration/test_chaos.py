"""A small run of `make chaos`: the table is right under faults, and a run detects deliberate mistakes."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.database import Database, a_database
from tests.chaos.figures import Outcome
from tests.chaos.flaws import Flaw
from tests.chaos.plan import a_plan
from tests.chaos.run import Options, run
from tests.thoroughness import is_thorough

pytestmark = pytest.mark.xdist_group("chaos")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with a_database() as database:
        yield database


def a_small_run(database: Database, *, stops: int = 0, recipients: int = 0, flaw: str = "") -> Outcome:
    workers = 4 if is_thorough() else 2
    limit = timedelta(minutes=1)
    options = Options(
        seed=4,
        lifecycles=200,
        workers=workers,
        stops=stops,
        recipients=recipients,
        returns=0,
        limit=limit,
        flaw=flaw,
    )
    return asyncio.run(run(options, database))


def test_after_a_round_of_sweeps_the_table_has_exactly_the_open_connections(database: Database) -> None:
    outcome = a_small_run(database, stops=1)

    assert outcome.differences == []
    assert outcome.figures.of("lifecycles")["begun"] == 200
    faults = outcome.figures.of("faults")
    assert faults["database stopped and started"] == 1
    assert sum(number for fault, number in faults.items() if fault.startswith("connection cut")) > 0
    assert outcome.figures.of("items at the end")["live"] > 0


def test_a_run_detects_a_store_that_deletes_wrong_items_and_a_sweep_that_keeps_ghosts(
    database: Database,
) -> None:
    flaws = [(Flaw.REMOVES_BY_ID, "missing"), (Flaw.KEEPS_GONE, "ghost")]
    for flaw, finding in flaws if is_thorough() else random.sample(flaws, 1):
        outcome = a_small_run(database, flaw=flaw)

        assert any(difference.startswith(finding) for difference in outcome.differences), flaw


def test_a_run_without_a_database_exits_with_the_reason() -> None:
    environ = {"DOCKER_HOST": "tcp://127.0.0.1:9", "PATH": ""}  # the discard port

    result = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--lifecycles", "1"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (result.returncode, result.stderr) == (
        1,
        "DynamoDB Local can't run: no Docker engine answers, and no java and no npm on this machine\n",
    )


def test_the_seed_determines_the_plan() -> None:
    plan = a_plan(4, lifecycles=200, stops=1)

    assert plan == a_plan(4, lifecycles=200, stops=1)
    assert plan != a_plan(5, lifecycles=200, stops=1)
