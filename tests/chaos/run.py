"""A run: a plan is carried out while the table is swept; the table is checked; then messages are sent.

At last, clients leave and return while messages flow, and tabs come and go.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from tests.chaos.database import Database, Table
from tests.chaos.ending import Ending
from tests.chaos.figures import Outcome
from tests.chaos.gateway import ManagementApi, management_api
from tests.chaos.plan import a_plan
from tests.chaos.proxy import FaultyProxy, faulty_proxy
from tests.chaos.returning import IN_MEMORY, Task, returning
from tests.chaos.scene import Scene
from tests.chaos.sweeping import SEGMENTS, Sweeper, a_sweeper
from tests.chaos.tabs import coming_and_going
from tests.chaos.tokens import Tokens
from tests.chaos.truth import Truth
from tests.chaos.workers import running_workers
from tests.dynamodb_local import REGION, a_client, create_table, running_dynamodb_local
from tests.sending.checks import faults, killed
from tests.sending.scene import a_scene

_SWEEPS_EVERY = 3.0  # seconds, one segment each
_STAYS_A_CLIENT = 200
_LOST_AFTER = timedelta(seconds=10)  # a call that the database was stopped during


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line; *flaw* is the name of one, or empty."""

    seed: int
    lifecycles: int = 10_000
    workers: int = 8
    stops: int = 3
    recipients: int = 10_000
    clients: int = 1000
    messages: int = 10_000
    returns: int = 5000
    stays: int = 10_000
    limit: timedelta = timedelta(minutes=5)
    returning_limit: timedelta = timedelta(minutes=8)
    flaw: str = ""


async def run(options: Options, database: Database) -> Outcome:
    """Carry out the plan on *database*, in a new table.

    Raises:
        TimeoutError: a limit is exceeded.
    """
    began = time.monotonic()
    outcome, truth = Outcome(), Truth()
    plan = a_plan(options.seed, lifecycles=options.lifecycles, stops=options.stops)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(options.limit.total_seconds()))
        client = a_client(f"http://127.0.0.1:{database.port}", read_timeout=_LOST_AFTER)
        stack.callback(client.close)
        table = Table(client, create_table(client))
        gateway = stack.enter_context(management_api(truth, _random(options.seed, "gateway")))
        proxy = await stack.enter_async_context(faulty_proxy(database.port, _random(options.seed, "network")))
        sweeper = stack.enter_context(
            a_sweeper(proxy.endpoint, table.name, gateway.endpoint, flaw=options.flaw)
        )
        tokens = Tokens(client)
        environ = _environ(proxy.endpoint, table.name, options.flaw) | tokens.environ
        async with running_workers(options.workers, environ) as workers, _sweeping(sweeper, outcome):
            scene = Scene(database, table, truth, workers, tokens, outcome)
            await scene.run(plan, options.workers)
        proxy.faulty = gateway.faulty = False
        await proxy.quiet()
        await scene.check_all()
        _count_faults(outcome, workers.killed, proxy, gateway)
        await Ending(table, truth, sweeper, outcome).check()
        if options.recipients:
            await asyncio.to_thread(_send, options, client.meta.endpoint_url, outcome)
    if options.returns:
        await _return(options, outcome)
    if options.stays:
        await _come_and_go(options, outcome)
    outcome.figures.count("run", "seconds", round(time.monotonic() - began))
    return outcome


def _send(options: Options, database: str, outcome: Outcome) -> None:
    """Send a message under faults, and another whose process is killed."""
    with a_scene(options.seed) as scene:
        outcome.verdicts += faults(scene, options.recipients)
        outcome.verdicts += killed(scene, options.recipients, database)
    outcome.differences += [
        f"sending: {it.figure.strip()}: {it.measured}, not {it.bar}"
        for it in outcome.verdicts
        if it.is_met is False
    ]


async def _return(options: Options, outcome: Outcome) -> None:
    """Let clients leave and return while messages flow; the database is in memory, since a disk is slow."""
    limit = options.returning_limit
    with running_dynamodb_local() as endpoint:
        task = Task(
            str(options.seed),
            endpoint,
            options.clients,
            options.messages,
            options.returns,
            limit.total_seconds(),
            options.flaw,
        )
        try:
            await returning(task, outcome)
        except TimeoutError:
            raise TimeoutError(f"The clients that return are not done within {limit}") from None


async def _come_and_go(options: Options, outcome: Outcome) -> None:
    """Let the tabs of clients come and go."""
    limit = options.returning_limit
    task = Task(
        str(options.seed),
        IN_MEMORY,
        clients=max(options.stays // _STAYS_A_CLIENT, 1),
        messages=0,
        returns=options.stays,
        limit=limit.total_seconds(),
        flaw=options.flaw,
    )
    try:
        await coming_and_going(task, outcome)
    except TimeoutError:
        raise TimeoutError(f"The tabs are not done within {limit}") from None


@asynccontextmanager
async def _sweeping(sweeper: Sweeper, outcome: Outcome) -> AsyncIterator[None]:
    """Sweep one segment after the other until the block ends, under the same faults as the workers."""
    over = asyncio.Event()

    async def sweep() -> None:
        segment = 0
        while not over.is_set():
            report = await asyncio.to_thread(sweeper.sweep, segment)
            outcome.figures.count("sweeps under way", "finished" if report.finished else "unfinished")
            segment = (segment + 1) % SEGMENTS
            await asyncio.wait([ending], timeout=_SWEEPS_EVERY)

    async with asyncio.TaskGroup() as group:
        ending = group.create_task(over.wait())
        group.create_task(sweep())
        yield
        over.set()


def _random(seed: int, name: str) -> Random:
    return Random(f"{seed} {name}")  # noqa: S311 - repeatable on purpose


def _environ(endpoint: str, table: str, flaw: str) -> dict[str, str]:
    return {
        "STORE": "dynamodb",
        "CONNECTIONS_TABLE": table,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "STORE_CONNECT_TIMEOUT_MS": "1000",
        "STORE_READ_TIMEOUT_MS": "1000",  # on a busy machine, too
        "STORE_ATTEMPTS": "2",
        "CHAOS_FLAW": flaw,
    }


def _count_faults(outcome: Outcome, killed: int, proxy: FaultyProxy, gateway: ManagementApi) -> None:
    figures = outcome.figures
    figures.count("faults", "worker killed", killed)
    for fault, number in proxy.faults.items():
        figures.count("faults", f"connection {fault.value}", number)
    figures.count("faults", "requests through the proxy in all", proxy.requests)
    for status, number in gateway.answers.items():
        name = "none, the connection is closed" if status is None else str(int(status))
        figures.count("the gateway's answers meanwhile", name, number)
