"""Sending compared with its peers, and checked under faults: ``make bench ARGS=send``.

Each program is a process of its own. Ratios are of runs side by side.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from http import HTTPStatus
from statistics import median
from typing import NamedTuple
from urllib.parse import quote

from app.adapters.clock import SystemClock
from app.adapters.gateway import MAX_CONNECTIONS
from app.domain.delivery import Outcome
from tests.dynamodb_local import running_dynamodb_local
from tests.gateway_server import SLOT, Fault, Kind, Plan, Report, Share
from tests.sending.checks import (
    BURST,
    LIMIT,
    RATE,
    Verdict,
    at_least,
    at_most,
    delivered,
    faults,
    killed,
    only,
)
from tests.sending.once import Done, a_message
from tests.sending.pages import a_recipient
from tests.sending.scene import SESSION_TOKEN, Scene, a_scene, output

_ROUNDS = 3
_PAIRS = 2  # of deliveries with slow clients
_MESSAGES = 15_000
_BY_BOTO3 = 150
_PROBES = 1000
_FEW, _MANY = 1000, 100_000
_RECIPIENTS = 10_000
_AT_THELIMIT = 18_000
_SLOW = 0.01  # of all
_MOST = 0.99  # of the clients that are not slow
_NEARLY = 0.95  # of all recipients; the last ones are those that were throttled
_MB = 1e6


class _Speed(NamedTuple):
    """Requests per second, and milliseconds of CPU for each."""

    rate: float
    cpu: float


def measure_sending(seed: int, say: Callable[[str], None]) -> list[Verdict]:
    """Measure all figures; *say* is told which are next."""
    parts = {
        "speed": _speed,
        "memory": _memory,
        "the probes of a sweep": _probes,
        "faults": lambda scene: faults(scene, _RECIPIENTS),
        "slow clients": _slow_clients,
        "a limit": _limit,
        "a killed process": _killed,
    }
    verdicts: list[Verdict] = []
    with a_scene(seed) as scene:
        for name, part in parts.items():
            say(name)
            verdicts += part(scene)
    return verdicts


def _peer(scene: Scene, program: str, requests: int) -> _Speed:
    """Run a program of ``send_peers``."""
    scene.gateway.follow(Plan())
    with scene.run("tests.benchmarks.send_peers", program, scene.gateway.endpoint, str(requests)) as process:
        seconds, cpu = json.loads(output(process))
    return _Speed(requests / seconds, cpu / requests * 1000)


def _killed(scene: Scene) -> list[Verdict]:
    with running_dynamodb_local() as dynamodb:
        return killed(scene, _RECIPIENTS, dynamodb)


def _speed(scene: Scene) -> list[Verdict]:
    """Send as fast as possible, in rounds with the peers."""
    task = scene.task(_MESSAGES)
    programs: dict[str, Callable[[], _Speed]] = {
        "boto3": lambda: _peer(scene, "boto3", _BY_BOTO3),
        "floor": lambda: _peer(scene, "floor", _MESSAGES),
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
        at_least("messages per second over boto3's, one by one", over("boto3"), 60, compared("boto3")),
        at_least(ab, over("ab"), 0.6, compared("ab"))
        if "ab" in programs
        else Verdict(ab, "LEFT OUT: no ab (apache2-utils)", "≥ 0.6", is_met=None),
        at_most("CPU per message, sending", sending, 0.10, f"{sending:.3f} ms"),
        at_most("CPU per message, with reading", reading, 0.12, f"{reading:.3f} ms"),
        only("  the same of a bare loop over libcurl", f"{floor:.3f} ms"),
        only("  over that", f"{over_floor('ours'):.2f}; with reading {over_floor('reading'):.2f}"),
        only("  messages per second, with reading", f"{medians('reading').rate:,.0f}/s"),
    ]


def _memory(scene: Scene) -> list[Verdict]:
    """Deliver to a few and to many, whose pages another process has."""
    few, many = (
        scene.deliver(scene.task(recipients)._replace(reading=scene.pages)).peak / _MB
        for recipients in (_FEW, _MANY)
    )
    return [
        at_most(f"peak memory, {_MANY:,} recipients", many, 100, f"{many:.1f} MB"),
        at_most(f"  over that of {_FEW:,}", many - few, 10, f"{many - few:.1f} MB"),
    ]


def _probes(scene: Scene) -> list[Verdict]:
    """Probe as a sweep does, and as it did before."""
    pairs = [(_peer(scene, "sweep", _PROBES), _peer(scene, "threads", _PROBES)) for _ in range(_ROUNDS)]
    ratio = median(new.cpu / old.cpu for new, old in pairs)
    new, old = (median(it.cpu for it in series) for series in zip(*pairs, strict=True))
    measured = f"{new:.3f} ms to {old:.3f} ms: {ratio:.2f}"
    return [at_most("CPU per probe of a sweep, over urllib3's in threads", ratio, 0.33, measured)]


def _slow_clients(scene: Scene) -> list[Verdict]:
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
            scene.deliver(scene.task(_RECIPIENTS, RATE), plan)
            paces[kind].append(_pace_of_most(scene.gateway.report(), plan))
    without, *_ = paces.values()
    verdicts = []
    for kind in list(kinds)[1:]:
        ratio = median(one / other for one, other in zip(paces[kind], without, strict=True))
        measured = f"{median(paces[kind]):,.0f}/s to {median(without):,.0f}/s: {ratio:.2f}"
        verdicts.append(at_least(f"pace of the others when 1 % {kind}", ratio, 0.8, measured))
    return verdicts


def _limit(scene: Scene) -> list[Verdict]:
    """Deliver at twice the account's limit."""
    plan = Plan(rate=LIMIT, burst=BURST)
    scene.deliver(scene.task(_AT_THELIMIT, 2 * LIMIT), plan)
    report = scene.gateway.report()
    used = _used(report, plan)
    refused = report.limited / sum(slot.requests for slot in report.slots)
    return [
        at_least(f"share used of a limit of {LIMIT:,}/s, begun at twice that", used, 0.85, f"{used:.3f}"),
        at_most("  share that it refuses", refused, 0.10, f"{refused:.3f}"),
    ]


def _speed_of(done: Done) -> _Speed:
    assert done.selected == done.outcomes[Outcome.DELIVERED], done.outcomes
    return _Speed(done.selected / done.seconds, done.cpu / done.selected * 1000)


def _speed_of_ab(scene: Scene) -> _Speed:
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
    wanted = delivered(report) * _NEARLY
    admitted = got = seconds = 0.0
    for slot in report.slots:
        if got >= wanted:
            break
        admitted += slot.requests - slot.limited
        got += slot.deliveries
        seconds += SLOT
    return admitted / (plan.burst + plan.rate * seconds)
