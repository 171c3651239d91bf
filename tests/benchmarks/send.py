"""Sending compared with its peers, and checked under faults: ``make bench ARGS=send``.

Each program is a process of its own. Ratios are of runs side by side.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple
from urllib.parse import quote

import boto3

from app.adapters.clock import SystemClock
from app.adapters.gateway import MAX_CONNECTIONS
from app.domain.delivery import Outcome, SendResult
from app.settings import Settings
from tests.benchmarks.assemble import BUILD, CHECKOUT
from tests.benchmarks.report import Verdict
from tests.benchmarks.send_once import DELIVERIES_TABLE, Done, Task, a_message
from tests.benchmarks.send_pages import PAGE_LENGTH, a_recipient, number_of
from tests.benchmarks.servers import authority, recipient_pages
from tests.benchmarks.subjects import ACCESS_KEY, REGION, SESSION_TOKEN
from tests.deadline import eventually
from tests.dynamodb_local import running_dynamodb_local
from tests.gateway_server import SLOT, Fault, GatewayServer, Kind, Plan, Report, Share, gateway_server
from tests.template import table_properties

_ROUNDS = 3
_PAIRS = 2  # of deliveries with slow clients
_MESSAGES = 15_000
_BY_BOTO3 = 150
_PROBES = 1000
_FEW, _MANY = 1000, 100_000
_RECIPIENTS = 10_000
_AT_THE_LIMIT = 18_000
_RATE = Settings().send_rate
_SLOW = 0.01  # of all
_LIMIT, _BURST = 3000, 300
_CLAIM = 4  # s, of the process that is killed
_PATIENCE = timedelta(minutes=2)  # with any program
_MOST = 0.99  # of the clients that are not slow
_NEARLY = 0.95  # of all recipients; the last ones are those that were throttled
_MB = 1e6

_FAULTS = (
    Share(0.05, Fault(Kind.GONE)),
    Share(0.02, Fault(Kind.GONE, attempts=2)),
    Share(0.01, Fault(Kind.TOO_LARGE)),
    Share(0.003, Fault(Kind.FORBIDDEN)),
    Share(0.01, Fault(Kind.BUFFER_FULL)),
    Share(0.01, Fault(Kind.BUFFER_FULL, attempts=2)),
    Share(0.01, Fault(Kind.SLOW, delay=1)),
    Share(0.002, Fault(Kind.SLOW, delay=4)),  # longer than a request may take
    Share(0.005, Fault(Kind.UNAVAILABLE)),
    Share(0.01, Fault(Kind.UNAVAILABLE, attempts=1)),
    Share(0.003, Fault(Kind.RESET)),
    Share(0.01, Fault(Kind.RESET, attempts=1)),
    Share(0.003, Fault(Kind.RESET_DELIVERED)),
    Share(0.01, Fault(Kind.RESET_DELIVERED, attempts=1)),
    Share(0.003, Fault(Kind.SILENT)),
    Share(0.003, Fault(Kind.SILENT, attempts=1)),
    Share(0.003, Fault(Kind.SILENT_DELIVERED, attempts=1)),
)


class _Speed(NamedTuple):
    """Requests per second, and milliseconds of CPU for each."""

    rate: float
    cpu: float


class _Scene(NamedTuple):
    """The seed, the servers, and the environment of the programs that call them."""

    seed: int
    gateway: GatewayServer
    pages: str
    environ: Mapping[str, str]

    def task(self, recipients: int, rate: int | None = None) -> Task:
        task = Task(self.gateway.endpoint, recipients)
        return task if rate is None else task._replace(rate=rate)

    def deliver(self, task: Task, plan: Plan | None = None) -> Done:
        """Deliver a message to clients that behave by *plan*."""
        self.gateway.follow(plan or Plan())
        with self.start(task) as process:
            return _done(process)

    def start(self, task: Task) -> "subprocess.Popen[str]":
        return self._start("send_once", json.dumps(task))

    def speed_of(self, program: str, requests: int) -> _Speed:
        """Run a program of ``send_peers``."""
        self.gateway.follow(Plan())
        with self._start("send_peers", program, self.gateway.endpoint, str(requests)) as process:
            seconds, cpu = json.loads(_output(process))
        return _Speed(requests / seconds, cpu / requests * 1000)

    def _start(self, module: str, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
            cwd=CHECKOUT,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )


def measure_sending(seed: int, say: Callable[[str], None]) -> list[Verdict]:
    """Measure all figures; *say* is told which are next."""
    parts = {
        "speed": _speed,
        "memory": _memory,
        "the probes of a sweep": _probes,
        "faults": _faults,
        "slow clients": _slow_clients,
        "a limit": _limit,
        "a killed process": _killed,
    }
    verdicts: list[Verdict] = []
    with _scene(seed) as scene:
        for name, part in parts.items():
            say(name)
            verdicts += part(scene)
    return verdicts


@contextmanager
def _scene(seed: int) -> Iterator[_Scene]:
    with ExitStack() as stack:
        certificate, bundles = authority(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        yield _Scene(
            seed,
            stack.enter_context(gateway_server(certificate=certificate)),
            stack.enter_context(recipient_pages(certificate)),
            {
                "PATH": os.environ["PATH"],
                "HOME": str(BUILD / "nobody"),  # does not exist: no file of the caller's is read
                "LANG": "C.UTF-8",
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
                "AWS_SESSION_TOKEN": SESSION_TOKEN,
                "AWS_CA_BUNDLE": str(bundles.amazon),
            },
        )


def _speed(scene: _Scene) -> list[Verdict]:
    """Send as fast as possible, in rounds with the peers."""
    task = scene.task(_MESSAGES)
    programs: dict[str, Callable[[], _Speed]] = {
        "boto3": lambda: scene.speed_of("boto3", _BY_BOTO3),
        "floor": lambda: scene.speed_of("floor", _MESSAGES),
        "ours": lambda: _speed_of(scene.deliver(task)),
        "reading": lambda: _speed_of(scene.deliver(task._replace(reading=scene.pages))),
    }
    if shutil.which("ab"):
        programs["ab"] = lambda: _speed_of_ab(scene)
    rounds = []
    for number in range(_ROUNDS):
        names = list(programs) if number % 2 else list(reversed(programs))
        rounds.append({name: programs[name]() for name in names})

    def medians(name: str) -> _Speed:
        return _Speed(*(median(values) for values in zip(*(it[name] for it in rounds), strict=True)))

    def over(name: str) -> float:
        return median(it["ours"].rate / it[name].rate for it in rounds)

    def compared(name: str) -> str:
        return f"{medians('ours').rate:,.0f}/s to {medians(name).rate:,.0f}/s: {over(name):.2f}"

    def over_floor(name: str) -> float:
        return median(it[name].cpu / it["floor"].cpu for it in rounds)

    sending, reading, floor = (medians(name).cpu for name in ("ours", "reading", "floor"))
    ab = "messages per second over ab's (in C, not signed)"
    return [
        _at_least("messages per second over boto3's, one by one", over("boto3"), 60, compared("boto3")),
        _at_least(ab, over("ab"), 0.6, compared("ab"))
        if "ab" in programs
        else Verdict(ab, "LEFT OUT: no ab (apache2-utils)", "≥ 0.6", is_met=None),
        _at_most("CPU per message, sending", sending, 0.10, f"{sending:.3f} ms"),
        _at_most("CPU per message, with reading", reading, 0.12, f"{reading:.3f} ms"),
        _only("  the same of a bare loop over libcurl", f"{floor:.3f} ms"),
        _only("  over that", f"{over_floor('ours'):.2f}; with reading {over_floor('reading'):.2f}"),
        _only("  messages per second, with reading", f"{medians('reading').rate:,.0f}/s"),
    ]


def _memory(scene: _Scene) -> list[Verdict]:
    """Deliver to a few and to many, whose pages another process has."""
    few, many = (
        scene.deliver(scene.task(recipients)._replace(reading=scene.pages)).peak / _MB
        for recipients in (_FEW, _MANY)
    )
    return [
        _at_most(f"peak memory, {_MANY:,} recipients", many, 100, f"{many:.1f} MB"),
        _at_most(f"  over that of {_FEW:,}", many - few, 10, f"{many - few:.1f} MB"),
    ]


def _probes(scene: _Scene) -> list[Verdict]:
    """Probe as a sweep does, and as it did before."""
    pairs = [(scene.speed_of("sweep", _PROBES), scene.speed_of("threads", _PROBES)) for _ in range(_ROUNDS)]
    ratio = median(new.cpu / old.cpu for new, old in pairs)
    new, old = (median(it.cpu for it in series) for series in zip(*pairs, strict=True))
    measured = f"{new:.3f} ms to {old:.3f} ms: {ratio:.2f}"
    return [_at_most("CPU per probe of a sweep, over urllib3's in threads", ratio, 0.33, measured)]


def _faults(scene: _Scene) -> list[Verdict]:
    """Deliver under all faults at once, and compare the report with what the clients got."""
    plan = Plan(seed=scene.seed, rate=_LIMIT, burst=_BURST, shares=_FAULTS)
    done = scene.deliver(scene.task(_RECIPIENTS, _RATE)._replace(plan=plan.as_json()), plan)
    report = scene.gateway.report()
    outcomes = {name: _outcome_of(results, plan.fault_of(name)) for name, results in done.results.items()}
    got = {name for name, seen in report.connections.items() if seen.deliveries}
    false = [name for name, outcome in outcomes.items() if outcome is Outcome.DELIVERED and name not in got]
    hidden = [name for name in got if outcomes[name] not in (Outcome.DELIVERED, Outcome.UNKNOWN)]
    repeated = {name: seen.deliveries - 1 for name, seen in report.connections.items() if name in got}
    lost = sum(seen.lost for seen in report.connections.values())
    unexplained = [name for name, times in repeated.items() if times > report.connections[name].lost]
    missed = [name for name in outcomes if _can_get_it(plan.fault_of(name)) and name not in got]
    live = [name for name in done.evicted if not _is_dead(plan.fault_of(name))]
    counted = Counter(outcome.value for outcome in outcomes.values())
    sums = done.selected == _RECIPIENTS == sum(done.outcomes.values()) == len(outcomes)
    exact = sums and counted == done.outcomes and done.delays == done.outcomes[Outcome.DELIVERED]
    return [
        Verdict(f"{_RECIPIENTS:,} recipients with faults: the report", _summary(done), "exact", is_met=exact),
        _at_most("  counted as delivered, and not delivered", len(false), 0, str(len(false))),
        _at_most("  delivered, and not counted as that or unknown", len(hidden), 0, str(len(hidden))),
        _at_most("  whose fault passes, and not delivered", len(missed), 0, str(len(missed))),
        Verdict(
            "  delivered again",
            f"{sum(repeated.values())}; {lost} answers lost",
            "≤ lost, by client",
            is_met=not unexplained,
        ),
        _only("  most copies that a client got", str(max(repeated.values()) + 1)),
        _at_most("  live connections evicted", len(live), 0, f"{len(live)}; {len(done.evicted)} dead ones"),
    ]


def _slow_clients(scene: _Scene) -> list[Verdict]:
    """Deliver without slow clients, and with some of each kind, in turn."""
    kinds = {
        "": (),
        "answer 429, their buffer is full": (Share(_SLOW, Fault(Kind.BUFFER_FULL)),),
        "answer after 1 s": (Share(_SLOW, Fault(Kind.SLOW, delay=1)),),
    }
    paces: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(_PAIRS):
        for kind, shares in kinds.items():
            plan = Plan(seed=scene.seed, shares=shares)
            scene.deliver(scene.task(_RECIPIENTS, _RATE), plan)
            paces[kind].append(_pace_of_most(scene.gateway.report(), plan))
    without, *_ = paces.values()
    verdicts = []
    for kind in list(kinds)[1:]:
        ratio = median(one / other for one, other in zip(paces[kind], without, strict=True))
        measured = f"{median(paces[kind]):,.0f}/s to {median(without):,.0f}/s: {ratio:.2f}"
        verdicts.append(_at_least(f"pace of the others when 1 % {kind}", ratio, 0.8, measured))
    return verdicts


def _limit(scene: _Scene) -> list[Verdict]:
    """Deliver at twice the account's limit."""
    plan = Plan(rate=_LIMIT, burst=_BURST)
    scene.deliver(scene.task(_AT_THE_LIMIT, 2 * _LIMIT), plan)
    report = scene.gateway.report()
    used = _used(report, plan)
    refused = report.limited / sum(slot.requests for slot in report.slots)
    return [
        _at_least(f"share used of a limit of {_LIMIT:,}/s, begun at twice that", used, 0.85, f"{used:.3f}"),
        _at_most("  share that it refuses", refused, 0.10, f"{refused:.3f}"),
    ]


def _killed(scene: _Scene) -> list[Verdict]:
    """Kill the process that delivers, at a random moment, and let another go on."""
    kill_at = Random(scene.seed).randrange(_RECIPIENTS // 5, _RECIPIENTS * 4 // 5)  # noqa: S311 - no secret
    with _deliveries_table() as deliveries:
        task = scene.task(_RECIPIENTS, _RATE)._replace(
            reading=scene.pages, deliveries=deliveries, claim=_CLAIM
        )
        scene.gateway.follow(Plan())
        with scene.start(task) as process:
            eventually(lambda: _delivered(scene.gateway.report()) >= kill_at, within=_PATIENCE)
            process.kill()
        killed_after = _delivered(scene.gateway.report())
        with scene.start(task) as process:
            done = _done(process)
    seen = scene.gateway.report().connections
    missed = _RECIPIENTS - sum(it.deliveries > 0 for it in seen.values())
    twice = [name for name, it in seen.items() if it.deliveries > 1]
    pages = {number_of(name) // PAGE_LENGTH for name in twice}
    once_more = all(seen[name].deliveries == 2 for name in twice)
    exact = done.selected == _RECIPIENTS and done.outcomes == {Outcome.DELIVERED: _RECIPIENTS}
    return [
        Verdict(
            f"kill -9 after {killed_after:,} of {_RECIPIENTS:,}: the report",
            _summary(done),
            "exact",
            is_met=exact,
        ),
        _at_most("  recipients missed", missed, 0, str(missed)),
        Verdict(
            "  delivered twice",
            f"{len(twice):,}, of {len(pages)} page(s) of {PAGE_LENGTH:,}",
            "≤ 1 page",
            is_met=len(pages) <= 1 and once_more,
        ),
    ]


def _at_least(figure: str, value: float, bar: float, measured: str) -> Verdict:
    return Verdict(figure, measured, f"≥ {bar:g}", is_met=value >= bar)


def _at_most(figure: str, value: float, bar: float, measured: str) -> Verdict:
    return Verdict(figure, measured, f"≤ {bar:g}", is_met=value <= bar)


def _only(figure: str, measured: str) -> Verdict:
    return Verdict(figure, measured, "", is_met=None)


def _output(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=_PATIENCE.total_seconds())
    assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}"
    return output


def _done(process: "subprocess.Popen[str]") -> Done:
    return Done(**json.loads(_output(process)))


def _summary(done: Done) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(done.outcomes.items()))


def _speed_of(done: Done) -> _Speed:
    assert done.selected == done.outcomes[Outcome.DELIVERED], done.outcomes
    return _Speed(done.selected / done.seconds, done.cpu / done.selected * 1000)


def _speed_of_ab(scene: _Scene) -> _Speed:
    """Return the rate of ApacheBench: one URL, no signature, as many connections as ours."""
    scene.gateway.follow(Plan())
    with tempfile.NamedTemporaryFile() as body:
        body.write(a_message(SystemClock().now()).frame)
        body.flush()
        output = subprocess.run(
            [
                *("ab", "-q", "-k", "-c", str(MAX_CONNECTIONS), "-n", str(_MESSAGES), "-p", body.name),
                *("-T", "application/octet-stream", "-H", f"X-Amz-Security-Token: {SESSION_TOKEN}"),
                f"{scene.gateway.endpoint}/@connections/{quote(a_recipient(0).id)}",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert scene.gateway.report().statuses == {HTTPStatus.OK: _MESSAGES}
    rate = re.search(r"Requests per second: +([0-9.]+)", output)
    assert rate, output
    return _Speed(float(rate[1]), 0)


def _outcome_of(results: Sequence[str], fault: Fault | None) -> Outcome:
    """Return what a recipient with those results has to be counted as."""
    if results[-1] == SendResult.DELIVERED:
        return Outcome.DELIVERED
    if SendResult.UNANSWERED in results:
        return Outcome.UNKNOWN
    if results[-1] == SendResult.GONE:
        return Outcome.GONE if _is_dead(fault) else Outcome.YOUNG_GONE
    return Outcome(results[-1])


def _is_dead(fault: Fault | None) -> bool:
    return fault is not None and fault.kind is Kind.GONE and fault.attempts is None


def _can_get_it(fault: Fault | None) -> bool:
    """Return whether a client gets the message after a few attempts at most."""
    return fault is None or fault.kind is Kind.SLOW or fault.attempts is not None


def _pace_of_most(report: Report, plan: Plan) -> float:
    """Return how many messages per second those without a fault got, until nearly all of them had it."""
    times = sorted(
        seen.first_at
        for name, seen in report.connections.items()
        if seen.first_at is not None and plan.fault_of(name) is None
    )
    most = int(len(times) * _MOST)
    return most / times[most - 1]


def _used(report: Report, plan: Plan) -> float:
    """Return which share of the limit was used until nearly all recipients had the message."""
    assert plan.rate is not None
    wanted = _delivered(report) * _NEARLY
    admitted = delivered = seconds = 0.0
    for slot in report.slots:
        if delivered >= wanted:
            break
        admitted += slot.requests - slot.limited
        delivered += slot.deliveries
        seconds += SLOT
    return admitted / (plan.burst + plan.rate * seconds)


def _delivered(report: Report) -> int:
    return sum(slot.deliveries for slot in report.slots)


@contextmanager
def _deliveries_table() -> Iterator[str]:
    """Run a database with an empty table of deliveries, and yield its endpoint."""
    with running_dynamodb_local() as endpoint:
        session = boto3.session.Session(ACCESS_KEY, ACCESS_KEY, region_name=REGION)
        client = session.client("dynamodb", endpoint_url=endpoint)
        client.create_table(**table_properties("DeliveriesTable") | {"TableName": DELIVERIES_TABLE})
        client.get_waiter("table_exists").wait(TableName=DELIVERIES_TABLE, WaiterConfig={"Delay": 1})
        client.close()
        yield endpoint
