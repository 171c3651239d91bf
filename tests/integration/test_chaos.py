"""A small run of `make chaos`: the table is right under faults, and a run detects deliberate mistakes."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.clients import a_plan_of_returns
from tests.chaos.database import Database, a_database
from tests.chaos.figures import Outcome
from tests.chaos.flaws import Flaw
from tests.chaos.missed import MISSED, NOT_GOT
from tests.chaos.plan import a_plan
from tests.chaos.returning import IN_MEMORY, Task
from tests.chaos.returning import run as run_returns
from tests.chaos.run import Options, run
from tests.chaos.tabs import a_plan_of_stays
from tests.chaos.tabs import run as run_tabs
from tests.thoroughness import is_thorough

pytestmark = pytest.mark.xdist_group("chaos")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with a_database() as database:
        yield database


def a_small_run(
    database: Database, *, seed: int = 4, stops: int = 0, recipients: int = 0, flaw: str = ""
) -> Outcome:
    workers = 4 if is_thorough() else 2
    limit = timedelta(minutes=4)  # of a busy machine
    options = Options(
        seed=seed,
        lifecycles=200,
        workers=workers,
        stops=stops,
        recipients=recipients,
        returns=0,
        stays=0,
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
    # By seed 279, a $disconnect comes half a second late for five ids whose next connection stays open.
    flaws = [(Flaw.REMOVES_BY_ID, 279, "missing"), (Flaw.KEEPS_GONE, 4, "ghost")]
    for flaw, seed, finding in flaws if is_thorough() else random.sample(flaws, 1):
        outcome = a_small_run(database, seed=seed, flaw=flaw)

        assert any(difference.startswith(finding) for difference in outcome.differences), flaw


def test_a_run_without_a_database_exits_with_the_reason() -> None:
    environ = {"DOCKER_HOST": "tcp://127.0.0.1:9", "PATH": ""}  # the discard port

    result = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--lifecycles", "1"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert (result.returncode, result.stderr) == (
        1,
        "DynamoDB Local can't run: no Docker engine answers, and no java and no npm on this machine\n",
    )


def test_the_seed_determines_the_plan() -> None:
    plan = a_plan(4, lifecycles=200, stops=1)

    assert plan == a_plan(4, lifecycles=200, stops=1)
    assert plan != a_plan(5, lifecycles=200, stops=1)


def a_small_run_of_returns(endpoint: str) -> Outcome:
    return run_returns(Task("4", endpoint, clients=8, messages=30, returns=30, limit=240))


def test_clients_that_return_have_every_message_and_the_memory_has_what_the_database_has(
    dynamodb_local: str,
) -> None:
    outcome = a_small_run_of_returns(dynamodb_local)

    assert outcome.differences == []
    assert outcome.figures.of(NOT_GOT)[MISSED] == 0
    assert outcome.figures.of("messages that they got")["by catching up"] > 0
    assert outcome.figures.of("clients that return")["gaps announced"] > 0
    assert outcome.figures.of("presence")["joined"] > 0
    assert outcome == a_small_run_of_returns(IN_MEMORY)


def test_a_run_detects_clients_that_move_on_before_they_are_caught_up() -> None:
    sizes = {"clients": 40, "messages": 400, "returns": 200}
    outcome = run_returns(Task("1", IN_MEMORY, **sizes, limit=600, flaw=Flaw.MOVES_SINCE_EARLY))

    assert outcome.figures.of(NOT_GOT)[MISSED] > 0


def test_the_seed_determines_the_plan_of_returns() -> None:
    sizes = {"clients": 12, "messages": 60, "returns": 60}
    plan = a_plan_of_returns("1", **sizes)

    assert plan == a_plan_of_returns("1", **sizes)
    assert plan != a_plan_of_returns("2", **sizes)
    sent = [*plan.messages, *(it for client in plan.clients for stay in client.stays for it in stay.messages)]
    assert len(sent) == len({message.id for _, message in sent}) == 60


def a_small_run_of_tabs(flaw: str = "") -> Outcome:
    return run_tabs(Task("1", IN_MEMORY, clients=8, messages=0, returns=800, limit=600, flaw=flaw))


def test_presence_is_right_after_redelivery_kills_and_batches_of_two_workers() -> None:
    outcome = a_small_run_of_tabs()

    assert outcome.differences == []
    for stream in ("the stream of connections", "the stream of presence"):
        assert outcome.figures.of(stream)["batches given to two workers"] > 0
        assert outcome.figures.of(stream)["batches repeated without a failure"] > 0
    assert outcome.figures.of("invocations meanwhile")["stream, killed"] > 0
    assert outcome.figures.of("presence")["left, published again"] > 0


@pytest.mark.parametrize("flaw", [Flaw.FORGETS_WHO_LEFT, Flaw.OVERWRITES_PRESENCE, Flaw.LOSES_EVENTS])
def test_a_run_detects_wrong_presence(flaw: Flaw) -> None:
    assert a_small_run_of_tabs(flaw).differences


def test_the_seed_determines_the_plan_of_stays() -> None:
    plan = a_plan_of_stays("1", clients=3, stays=30)

    assert plan == a_plan_of_stays("1", clients=3, stays=30)
    assert plan != a_plan_of_stays("2", clients=3, stays=30)
