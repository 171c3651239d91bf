"""Clients leave and return at random while messages flow; at the end each has every message of its audience.

The use cases, the handlers and the adapters of the tables are real. What surrounds
them is simulated, in simulated time, with faults by the seed. A part of the clients
has its tables in DynamoDB Local, the rest in memory, which answers the same requests.
Each part is a process: this program, which prints what it has found as JSON.
"""

import asyncio
import json
import logging
import random as used_by_the_code
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from app.adapters.dynamodb.direct import direct_transport
from app.adapters.dynamodb.transport import Transport
from tests.chaos.clients import Client, Run, a_plan_of_returns, open_connections
from tests.chaos.figures import Outcome
from tests.chaos.functions import Functions, Tables
from tests.chaos.memory_tables import MemoryTables
from tests.chaos.missed import Checks
from tests.chaos.present import PresenceChecks
from tests.chaos.turns import Turns
from tests.dynamodb_local import REGION, a_client, create_table

PARTS = 5
"""Of all; the tables of the first are in DynamoDB Local, which takes ten times as long as the memory."""
IN_MEMORY = ""
"""The endpoint of the tables in memory."""

_CHECKOUT = Path(__file__).parents[2]
_PROCESSES = 2
_THREADS = 64  # one of them runs at a time
_TABLES = ("ConnectionsTable", "DeliveriesTable", "HistoryTable", "PresenceTable")


class Task(NamedTuple):
    """What is carried out; ``limit`` is in seconds.

    ``endpoint`` is that of a DynamoDB Local, or IN_MEMORY.
    """

    seed: str
    endpoint: str
    clients: int
    messages: int
    returns: int
    limit: float
    flaw: str = ""


class Simulation(NamedTuple):
    """The functions, and what surrounds them."""

    turns: Turns
    random: Random
    functions: Functions
    outcome: Outcome


async def returning(task: Task, outcome: Outcome) -> None:
    """Carry out the task in parts, each with its own clients, and add to the outcome.

    Raises:
        TimeoutError: the limit is exceeded.
    """
    parts = [
        task._replace(
            seed=f"{task.seed} part {number}",
            endpoint=IN_MEMORY if number else task.endpoint,
            clients=_share(task.clients, number),
            messages=_share(task.messages, number),
            returns=_share(task.returns, number),
        )
        for number in range(PARTS)
    ]
    free = asyncio.Semaphore(_PROCESSES)
    async with asyncio.timeout(task.limit), asyncio.TaskGroup() as group:
        running = [(part, group.create_task(_output(part, free))) for part in parts if part.clients]
    for part, printed in running:
        add_printed(printed.result(), part, outcome)


def run(task: Task) -> Outcome:
    """Carry out the task in this process, and compare what the clients got with what was sent.

    Raises:
        TimeoutError: the limit is exceeded.
    """
    plan = a_plan_of_returns(task.seed, clients=task.clients, messages=task.messages, returns=task.returns)
    with simulation(task) as (turns, random, functions, outcome):
        shared = Run(turns, random, functions.gateway, functions, outcome, task.flaw)
        clients = [Client(it, shared) for it in plan.clients]
        for client in clients:
            turns.after(client.plan.comes_after, client.connect)
        for after, message in plan.messages:
            turns.after(after, partial(shared.send, message))
        turns.run()
        PresenceChecks(outcome, functions, open_connections(clients)).check()
    Checks(shared, clients, functions.seen).check()
    return outcome


@contextmanager
def simulation(task: Task) -> Iterator[Simulation]:
    """Yield the functions and what surrounds them; when the block ends, their figures are in the outcome."""
    outcome = Outcome()
    turns = Turns(_THREADS, timedelta(seconds=task.limit))
    random = Random(f"{task.seed} faults")  # noqa: S311 - repeatable on purpose
    with _tables(task.endpoint) as (transport, tables), _repeatable(task.seed), _counting(outcome):
        functions = Functions(turns, random, tables, transport, task.flaw)
        yield Simulation(turns, random, functions, outcome)
    _count(outcome, turns, functions)


def _share(number: int, part: int) -> int:
    """Return the share of a *part* in a number."""
    return number // PARTS + (part < number % PARTS)


async def _output(task: Task, free: asyncio.Semaphore) -> str:
    async with free:
        return await printed_by("tests.chaos.returning", task)


async def printed_by(program: str, task: Task) -> str:
    """Carry out the task by *program* in a process of its own, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", program, json.dumps(task)),
        cwd=_CHECKOUT,
        stdout=PIPE,
        start_new_session=True,  # Ctrl-C is for us to handle
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{task.seed} ended with {process.returncode}")
    return printed.decode()


def add_printed(printed: str, task: Task, outcome: Outcome) -> None:
    """Add what a program has printed for the *task*."""
    sections, differences = json.loads(printed)
    for section, counted in sections.items():
        for name, number in counted.items():
            outcome.figures.count(section, name, number)
    outcome.differences += [f"seed {task.seed}: {it}" for it in differences]


@contextmanager
def _tables(endpoint: str) -> Iterator[tuple[Transport, Tables]]:
    """Yield new tables, and what carries the requests to them."""
    if endpoint == IN_MEMORY:
        yield MemoryTables(), Tables(*_TABLES)
        return
    with closing(a_client(endpoint)) as client:
        names = [create_table(client, name) for name in _TABLES]
    with closing(
        direct_transport(
            region=REGION,
            endpoint=endpoint,
            connect_timeout=timedelta(seconds=2),
            read_timeout=timedelta(seconds=30),  # of a busy machine
            attempts=3,
        )
    ) as transport:
        yield transport, Tables(*names)


def _count(outcome: Outcome, turns: Turns, functions: Functions) -> None:
    """Add the figures of what happened to the outcome."""
    for section, counted in {
        "invocations meanwhile": functions.invocations,
        "the gateway's answers to messages": functions.gateway.answers,
        "requests to the tables": functions.database.calls,
        "the stream of connections": functions.stream.counts,
        "the stream of presence": functions.presence_stream.counts,
        "queue of messages": functions.messages.counts,
        "queue of those that return": functions.catch_ups.counts,
    }.items():
        for name, number in sorted(counted.items()):
            outcome.figures.count(section, name, number)
    outcome.figures.count("run", "simulated minutes", round(turns.now / 60))


@contextmanager
def _repeatable(seed: str) -> Iterator[None]:
    """Make the random pauses of the code under test depend on the seed."""
    before = used_by_the_code.getstate()
    used_by_the_code.seed(seed)
    try:
        yield
    finally:
        used_by_the_code.setstate(before)


class _Records(logging.Handler):
    """Counts what the functions log."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self._outcome = outcome

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", "")
        self._outcome.figures.count("log records", event)
        if event == "bug":
            self._outcome.differences.append(logging.Formatter().format(record))


@contextmanager
def _counting(outcome: Outcome) -> Iterator[None]:
    logger, records = logging.getLogger("switchboard"), _Records(outcome)
    before = logger.level, logger.propagate
    logger.addHandler(records)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(records)
        logger.level, logger.propagate = before


def main() -> None:
    outcome = run(Task(*json.loads(sys.argv[1])))
    json.dump([outcome.figures.sections, outcome.differences], sys.stdout)


if __name__ == "__main__":
    main()
