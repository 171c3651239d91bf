"""Sending checked against what clients got: under seeded faults, and after a kill."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from random import Random
from typing import NamedTuple

import boto3

from app.domain.delivery import Outcome, SendResult
from app.settings import Settings
from tests.deadline import eventually
from tests.dynamodb_local import REGION, create_table
from tests.gateway_server import Fault, Kind, Plan, Report, Share
from tests.sending.once import Done
from tests.sending.pages import MB_LENGTH
from tests.sending.scene import ACCESS_KEY, Scene, done

RATE = Settings().send_rate
LIMIT, BURST = 3000, 300
_UNHURRIED = 2000  # messages per second, so that it is not over before the process is killed
_CLAIM = 4  # s, of the process that is killed
_UNHURRIED_REQUEST = 60  # s; without faults every request is answered, if late on a busy machine
_CONNECTIONS = 32  # under faults; a busy machine makes so few within the time-out of a request, 3 s
_PATIENCE = timedelta(minutes=2)

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


class Verdict(NamedTuple):
    """A figure of sending and its bar, as text; without a bar or a measurement, ``is_met`` is ``None``."""

    figure: str
    measured: str
    bar: str
    is_met: bool | None


def faults(scene: Scene, recipients: int) -> list[Verdict]:
    """Deliver under all faults at once, and compare the report with what the clients got."""
    plan = Plan(seed=scene.seed, rate=LIMIT, burst=BURST, shares=_FAULTS)
    task = scene.task(recipients, RATE)._replace(connections=_CONNECTIONS, plan=plan.as_json())
    found = scene.deliver(task, plan)
    report = scene.gateway.report()
    outcomes = {name: _outcome_of(results, plan.fault_of(name)) for name, results in found.results.items()}
    got = {name for name, seen in report.connections.items() if seen.deliveries}
    false = [name for name, outcome in outcomes.items() if outcome is Outcome.DELIVERED and name not in got]
    hidden = [name for name in got if outcomes[name] not in (Outcome.DELIVERED, Outcome.UNKNOWN)]
    repeated = {name: seen.deliveries - 1 for name, seen in report.connections.items() if name in got}
    lost = sum(seen.lost for seen in report.connections.values())
    unexplained = [name for name, times in repeated.items() if times > report.connections[name].lost]
    missed = [name for name in outcomes if _can_get_it(plan.fault_of(name)) and name not in got]
    live = [name for name in found.evicted if not _is_dead(plan.fault_of(name))]
    counted = Counter(outcome.value for outcome in outcomes.values())
    sums = found.selected == recipients == sum(found.outcomes.values()) == len(outcomes)
    exact = sums and counted == found.outcomes and found.delays == found.outcomes[Outcome.DELIVERED]
    return [
        Verdict(f"{recipients:,} recipients with faults: the report", _summary(found), "exact", is_met=exact),
        at_most("  counted as delivered, and not delivered", len(false), 0, str(len(false))),
        at_most("  delivered, and not counted as that or unknown", len(hidden), 0, str(len(hidden))),
        at_most("  whose fault passes, and not delivered", len(missed), 0, str(len(missed))),
        Verdict(
            "  delivered again",
            f"{sum(repeated.values())}; {lost} answers lost",
            "≤ lost, by client",
            is_met=not unexplained,
        ),
        only("  most copies that a client got", str(max(repeated.values()) + 1)),
        at_most("  live connections evicted", len(live), 0, f"{len(live)}; {len(found.evicted)} dead ones"),
    ]


def killed(scene: Scene, recipients: int, dynamodb: str) -> list[Verdict]:
    """Kill the process that delivers, at a random moment, and let another go on."""
    kill_at = Random(scene.seed).randrange(recipients // 5, recipients // 2)  # noqa: S311 - no secret
    session = boto3.session.Session(ACCESS_KEY, ACCESS_KEY, region_name=REGION)
    with closing(session.client("dynamodb", endpoint_url=dynamodb)) as client:
        table = create_table(client, "DeliveriesTable")
    task = scene.task(recipients, _UNHURRIED)._replace(
        reading=scene.pages, deliveries=dynamodb, table=table, claim=_CLAIM, timeout=_UNHURRIED_REQUEST
    )
    scene.gateway.follow(Plan())
    with scene.start(task) as process:
        eventually(lambda: delivered(scene.gateway.report()) >= kill_at, within=_PATIENCE)
        process.kill()
    killed_after = delivered(scene.gateway.report())
    with scene.start(task) as process:
        found = done(process)
    seen = scene.gateway.report().connections
    missed = recipients - sum(it.deliveries > 0 for it in seen.values())
    twice = [name for name, it in seen.items() if it.deliveries > 1]
    once_more = all(seen[name].deliveries == 2 for name in twice)
    exact = found.selected == recipients and found.outcomes == {Outcome.DELIVERED: recipients}
    return [
        Verdict(
            f"kill -9 after {killed_after:,} of {recipients:,}: the report",
            _summary(found),
            "exact",
            is_met=exact,
        ),
        at_most("  recipients missed", missed, 0, str(missed)),
        Verdict(
            "  delivered twice",
            f"{len(twice):,}; 1 MB has {MB_LENGTH:,}",
            "≤ 1 MB",
            is_met=len(twice) <= MB_LENGTH and once_more,
        ),
    ]


def at_least(figure: str, value: float, bar: float, measured: str) -> Verdict:
    return Verdict(figure, measured, f"≥ {bar:g}", is_met=value >= bar)


def at_most(figure: str, value: float, bar: float, measured: str) -> Verdict:
    return Verdict(figure, measured, f"≤ {bar:g}", is_met=value <= bar)


def only(figure: str, measured: str) -> Verdict:
    return Verdict(figure, measured, "", is_met=None)


def _summary(done: Done) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(done.outcomes.items()))


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


def delivered(report: Report) -> int:
    return sum(slot.deliveries for slot in report.slots)
