"""``make bench ARGS=cost``: the figures of ``make cost``, written into infra/cost/measured.toml.

Of each function: CPU of a cold start and of a warm invocation, peak memory, bytes of log records. CPU
time hardly depends on what else the machine does. DynamoDB's units are counted by DynamoDB Local.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.deliveries import DynamoDBDeliveries
from app.adapters.dynamodb.items import item_of
from app.adapters.dynamodb.sdk import SdkTransport
from app.adapters.dynamodb.store import DynamoDBConnectionStore
from app.adapters.sqs import SqsCatchUps
from app.domain.history import OVERLAP, CatchUp, Place
from app.domain.lifecycle import ConnectionRef
from infra.cost.measured import PATH, Measured, as_toml
from tests.benchmarks.assemble import BUILD, PYTHON, assemble
from tests.benchmarks.driver import CONNECTION_ID
from tests.benchmarks.measure import a_gateway_event
from tests.benchmarks.report import processor
from tests.benchmarks.send_peers import Took
from tests.benchmarks.servers import authority, management_api, stub
from tests.benchmarks.subjects import OURS, SEED, Backend, Subject
from tests.benchmarks.units import a_session, measure_units
from tests.builders import Event, a_message, an_event
from tests.dynamodb_local import a_client, create_table, running_dynamodb_local
from tests.environment import clear_user_settings
from tests.sending.scene import Scene, a_scene, output

_WARM_UP, _INVOCATIONS = 30, 100
_NUMBER = _WARM_UP + _INVOCATIONS
_FULL, _FULL_BATCHES, _FULL_ROUNDS = 100, 2, 3  # records of a batch: BatchSize of the stream's mapping
_RUNS = count()  # numbers of processes: what an earlier one has connected or sent counts as repeated
_MESSAGES, _PROBES, _BY_BOTO3 = 10_000, 2_000, 150
_INVOKED = (str(PYTHON), "-s", "-P", "-c", "import sys, invoked; invoked.main(*sys.argv[1:])")
_NS_PER_MS = 1e6
_DIGITS = 3


class Function(NamedTuple):
    """A function: its handler, its settings, and what makes the events of a process, each with its kind."""

    subject: Subject
    handler: str
    backend: Backend
    events: Callable[[], Iterable[tuple[str, Event]]]
    environ: Mapping[str, str] = {}
    warm_up: int = _WARM_UP


class _Bodies(SqsCatchUps):
    """The queue of clients that come back, which keeps the bodies of its messages instead of sending them."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send(self, body: str, *_: object, **__: object) -> None:
        self.bodies.append(body)


def measure_cost(rounds: int, say: Callable[[str], None]) -> Measured:
    """Measure everything and write it into the repository; *say* is told what is next."""
    clear_user_settings(os.environ)
    say("assembling the functions in build/bench")
    assemble()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        certificate, bundles = authority(folder)
        tls = stack.enter_context(stub("stub, TLS", certificate, bundles))
        endpoint, gateway = (stack.enter_context(it) for it in (running_dynamodb_local(), management_api()))
        say("DynamoDB's units")
        units = measure_units(endpoint)
        functions: dict[str, dict[str, float]] = {}
        for name, function in _functions(tls, endpoint, gateway).items():
            say(f"{name}, {rounds} processes")
            functions |= _measured(name, function, rounds)
        functions = _with_full_batches(functions)
        say("sending")
        functions |= _per_message(stack.enter_context(a_scene(seed=1)))
    measured = Measured(_circumstances(rounds), functions, units)
    PATH.write_text(as_toml(measured))
    return measured


def _functions(tls: Backend, endpoint: str, gateway: str) -> Mapping[str, Function]:
    local = Backend("DynamoDB Local", endpoint, "connections")
    ours, plain = Subject(OURS, BUILD / OURS, ""), Subject(SEED, BUILD / SEED, "")
    connects = partial(_events, "connect_browser")
    disconnects = partial(_events, "disconnect_client_closed_1005")
    with closing(a_client(endpoint)) as client:
        tables = {
            "CONNECTIONS_TABLE": create_table(client),
            "PRESENCE_TABLE": create_table(client, "PresenceTable"),
            "DELIVERIES_TABLE": create_table(client, "DeliveriesTable"),
            "HISTORY_TABLE": create_table(client, "HistoryTable"),
        }
        with_clients = (
            tables
            | {  # those that have come back, and a history of which they have missed nothing
                "CONNECTIONS_TABLE": create_table(client),
                "HISTORY_TABLE": create_table(client, "HistoryTable"),
            }
        )
        catch_ups = _catch_ups(SdkTransport(client), with_clients)
    assert tls.bundles
    stack = tables | {  # as by the template's defaults
        "CATCH_UP_QUEUE": "catch-ups",
        "MESSAGE_QUEUE": "messages",
        "AWS_ENDPOINT_URL_SQS": tls.endpoint,
        "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": gateway,
        "AWS_CA_BUNDLE": str(tls.bundles.public),
    }
    entrypoints = "app.entrypoints"
    return {
        "connect": Function(ours, f"{entrypoints}.aws_lambda.connect", tls, connects),
        "disconnect": Function(ours, f"{entrypoints}.aws_lambda.disconnect", tls, disconnects),
        "plain_connect": Function(plain, "seed.connect", tls, connects),
        "plain_disconnect": Function(plain, "seed.disconnect", tls, disconnects),
        "changes": Function(ours, f"{entrypoints}.aws_stream.handler", local, _changes, stack),
        "full": Function(ours, f"{entrypoints}.aws_stream.handler", local, _full_batches, stack, warm_up=0),
        "presence": Function(ours, f"{entrypoints}.aws_presence.handler", local, _presence, stack),
        "send": Function(ours, f"{entrypoints}.aws_send.handler", local, _messages, stack),
        "sweep": Function(ours, f"{entrypoints}.aws_sweep.handler", local, _schedules, stack),
        "catch_up": Function(
            ours, f"{entrypoints}.aws_catch_up.handler", local, lambda: catch_ups, stack | with_clients
        ),
    }


def _events(name: str) -> Iterator[tuple[str, Event]]:
    text = a_gateway_event(name)
    for number in range(_NUMBER):
        yield "", json.loads(text.replace(CONNECTION_ID, f"JKJcX{number:010}="))


def _schedules() -> Iterator[tuple[str, Event]]:
    for _ in range(_NUMBER):
        yield "", {}


def _changes(number: int = _NUMBER) -> Iterator[tuple[str, Event]]:
    """Yield the stream's records of clients that come and go, each in a batch of its own.

    Every second one comes back: it says which message it has.
    """
    now, first = SystemClock().now(), next(_RUNS) * number
    for session in range(first, first + number // 2):
        connection = a_session(
            session,
            f"dashboard-{session}",
            created_at=now,
            connected_at=now,
            since=a_message().id if session % 2 else None,
        )
        image = item_of(connection)
        for kind, name, has in (
            ("return" if session % 2 else "connect", "stream_insert", "NewImage"),
            ("disconnect", "stream_remove", "OldImage"),
        ):
            event = an_event(name)
            event["Records"][0]["dynamodb"][has] = image
            yield kind, event


def _full_batches() -> Iterator[tuple[str, Event]]:
    """Yield the same in full batches."""
    records = [event["Records"][0] for _, event in _changes(_FULL * _FULL_BATCHES)]
    for first in range(0, len(records), _FULL):
        yield "", {"Records": records[first : first + _FULL]}


def _catch_ups(transport: SdkTransport, tables: Mapping[str, str]) -> Sequence[tuple[str, Event]]:
    """Return the two looks for each of some clients that have come back, and have missed nothing."""
    clock, queue, message = SystemClock(), _Bodies(), a_message()
    now = clock.now()
    store = DynamoDBConnectionStore(transport, tables["CONNECTIONS_TABLE"])
    deliveries = DynamoDBDeliveries(transport, tables["DELIVERIES_TABLE"], clock=clock)
    deliveries.claim(message, "everyone", until=now + timedelta(minutes=1))
    for number in range(_NUMBER // 2):
        connection = a_session(number, created_at=now, connected_at=now)
        store.add(connection)
        first = CatchUp(ConnectionRef.of(connection), message.id)
        queue.put(first)
        queue.put(first._replace(after=Place(now - OVERLAP), is_second=True))
    events = []
    for number, body in enumerate(queue.bodies):
        event = an_event("sqs_message")
        event["Records"][0]["body"] = body
        events.append(("second" if number % 2 else "first", event))
    return events


def _presence() -> Iterator[tuple[str, Event]]:
    for _ in range(_NUMBER // 2):
        joined = an_event("presence_insert")
        yield "joined", joined
        left = an_event("presence_insert")
        [record] = left["Records"]
        record["eventName"] = "REMOVE"
        record["dynamodb"]["OldImage"] = record["dynamodb"].pop("NewImage")
        yield "left", left


def _messages() -> Iterator[tuple[str, Event]]:
    """Yield messages that concern nobody."""
    first = next(_RUNS) * _NUMBER
    for number in range(first, first + _NUMBER):
        event = an_event("sqs_message")
        record: dict[str, Any] = event["Records"][0]
        record["body"] = json.dumps(json.loads(record["body"]) | {"id": f"m-{number}"})
        yield "", event


def _measured(name: str, function: Function, rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of so many processes; by kind, if there are several."""
    samples = [_invoked(name, function) for _ in range(rounds if function.warm_up else _FULL_ROUNDS)]
    kinds = samples[0]["cpu_ns"]
    return {
        f"{name}_{kind}" if kind else name: {
            "cold_cpu_ms": _rounded(median(it["cold_cpu_ns"] for it in samples) / _NS_PER_MS),
            "cpu_ms": _rounded(median(it["cpu_ns"][kind] for it in samples) / _NS_PER_MS),
            "memory_mb": _rounded(median(it["memory_kb"] for it in samples) * 1024 / 1e6),
            "log_bytes": round(median(it["log_bytes"][kind] for it in samples)),
        }
        for kind in kinds
    }


def _with_full_batches(functions: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the figures with the stream's function's memory as of full batches."""
    memory = functions.pop("full")["memory_mb"]
    return {
        name: figures | {"memory_mb": memory} if name.startswith("changes_") else figures
        for name, figures in functions.items()
    }


def _invoked(name: str, function: Function) -> dict[str, Any]:
    lines = "".join(f"{json.dumps(event)}\n" for event in function.events())
    result = subprocess.run(
        [*_INVOKED, function.handler, str(function.warm_up)],
        input=lines,
        env={**function.subject.environ_for(function.backend), **function.environ},
        cwd=function.subject.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{name}: {result.stderr}"
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


def _per_message(scene: Scene) -> dict[str, dict[str, float]]:
    """Return CPU per recipient, its reading included, and per probe; of boto3 in a loop, too."""
    done = scene.deliver(scene.task(_MESSAGES)._replace(reading=scene.pages))
    probes, posts = _peer(scene, "sweep", _PROBES), _peer(scene, "boto3", _BY_BOTO3)
    return {
        "recipient": {"cpu_ms": _rounded(done.cpu / _MESSAGES * 1000)},
        "probe": {"cpu_ms": _rounded(probes.cpu / _PROBES * 1000)},
        "plain_recipient": {"cpu_ms": _rounded(posts.cpu / _BY_BOTO3 * 1000)},
    }


def _peer(scene: Scene, program: str, requests: int) -> Took:
    with scene.run("tests.benchmarks.send_peers", program, scene.gateway.endpoint, str(requests)) as process:
        return Took(*json.loads(output(process)))


def _circumstances(rounds: int) -> dict[str, str | int]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": "make bench ARGS=cost",
        "processes": rounds,
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "load_average": f"{os.getloadavg()[1]:.1f}",
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
