"""The commands of sending: `send`, `deliveries`."""

import json as json_
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli import screen
from app.cli.commands import Account, Client, Region, cli
from app.cli.session import Session, UseCases
from app.domain.delivery import (
    Audience,
    Delivery,
    DeliveryReport,
    Message,
    MessageId,
    Outcome,
    checked,
    merged,
)
from app.domain.errors import InvalidMessage, QueueUnavailable
from app.domain.model import REGION
from app.domain.ports import Clock
from app.settings import InvalidSetting, Settings

_A_FRAME = 32 * 1024  # bytes; each counts as a message (API Gateway's pricing page)
_DOLLARS_PER_MILLION = 1.0  # of those, in us-east-1
_LONGEST_WAIT = timedelta(minutes=15)
_EVERY = 0.5  # s, between two looks at a delivery
_PERCENTILE = 0.99
_MS = timedelta(milliseconds=1)
_A_WEEK = 604_800  # seconds
_LABELS = {Outcome.YOUNG_GONE: "young, gone", Outcome.TOO_LARGE: "too large"}

Regions = Annotated[
    str | None, typer.Option("--regions", metavar="REGIONS", help="In these regions, separated by commas.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As one JSON object.")]


@dataclass(frozen=True, slots=True)
class _Regions:
    """The use cases in each region."""

    session: Session
    use_cases: Mapping[str, UseCases]

    def put(self, body: str, message_id: MessageId) -> None:
        """Put a message into each queue.

        Raises:
            QueueUnavailable: one did not take it, and no other has it.
            Exit: one did not take it, and others have it.
        """
        taken: list[str] = []
        for region, use_cases in self.use_cases.items():
            try:
                use_cases.queue().put(body)
            except QueueUnavailable as error:
                if not taken:
                    raise
                typer.echo(
                    f"The queue of {region} did not take it ({error.reason}); {', '.join(taken)} did. "
                    f"Send it again with --id {screen.plain(message_id)}: nobody gets it twice.",
                    err=True,
                )
                raise typer.Exit(1) from error
            taken.append(region)

    def deliveries(self, message_id: MessageId) -> dict[str, Delivery]:
        """Return the deliveries of a message where they are known."""
        found = {region: it.deliveries().get(message_id) for region, it in self.use_cases.items()}
        return {region: delivery for region, delivery in found.items() if delivery is not None}

    def finished(self, message: Message, clock: Clock) -> dict[str, Delivery]:
        """Return the deliveries once all are finished; until then, a progress bar shows how far they are.

        Raises:
            InvalidMessage: the id has been used for another message.
            Exit: they take too long.
        """
        until = clock.now() + _LONGEST_WAIT
        with screen.progress("Delivering; Ctrl-C ends the waiting, not the delivery.") as show:
            while True:
                known = self.deliveries(message.id)
                if any(it.digest != message.digest for it in known.values()):
                    raise InvalidMessage(f"The id {message.id} has been used for another message.")
                report = merged(it.progress.report for it in known.values())
                show(report.selected - report.count(Outcome.LEFT), report.selected)
                if len(known) == len(self.use_cases) and all(it.finished_at for it in known.values()):
                    return known
                if clock.now() >= until:
                    break
                self.session.pause(_EVERY)
        typer.echo(
            f"It is not finished after {_LONGEST_WAIT // timedelta(minutes=1)} minutes: look for "
            f"delivery.refused in the log, and at deliveries {screen.plain(message.id)}.",
            err=True,
        )
        raise typer.Exit(1)


@cli.command()
def send(
    context: typer.Context,
    *,
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="By which clients tell messages.")],
    data: Annotated[str, typer.Option(metavar="JSON", help="The content as JSON, or @FILE that has it.")],
    account: Account = None,
    region: Region = None,
    client: Client = None,
    connection: Annotated[str | None, typer.Option(metavar="ID", help="Only this connection.")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="All connections.")] = False,
    name: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The message's id: sent again, it is delivered once."),
    ] = None,
    expires_in: Annotated[
        int | None, typer.Option(min=1, max=_A_WEEK, metavar="SECONDS", help="Not sent any more after that.")
    ] = None,
    regions: Regions = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and price, send nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the report, and show it.")] = False,
    json: AsJson = False,
) -> None:
    """Send a message to an account, a client, a connection or everyone.

    With --region it goes to those of the account who watch that region or all of
    the account. It goes through the queue MESSAGE_QUEUE; DELIVERIES_TABLE has the
    report.
    """
    audience = {"account": account, "region": region, "client": client, "connection": connection}
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()) if name is None else name,
        "type": type_,
        "audience": {key: value for key, value in audience.items() if value is not None},
        "data": _content(data),
    }
    if everyone:
        fields["audience"]["everyone"] = True
    session: Session = context.obj
    with session.open() as (use_cases, settings):
        now = use_cases.clock().now()
        if expires_in is not None:
            fields["expiresAt"] = (now + timedelta(seconds=expires_in)).isoformat()
        body = json_.dumps(fields)
        message, to_whom = use_cases.read_message()(body, now)
        checked(message)
        where = _in_regions(session, use_cases, settings, regions)
        if dry_run:
            _show_price(where, message, to_whom, as_json=json)
            return
        typer.echo(
            f"Message {screen.plain(message.id)}", err=True
        )  # first: it may be in a queue after an error
        where.put(body, message.id)
        if wait:
            _show(where.finished(message, use_cases.clock()), as_json=json)
        else:
            typer.echo(message.id)
            typer.echo("It is in the queue; the command deliveries says what became of it.", err=True)


@cli.command()
def deliveries(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="A message's id.")],
    *,
    regions: Regions = None,
    json: AsJson = False,
) -> None:
    """Show what became of a message. It is known for 15 days."""
    session: Session = context.obj
    with session.open() as (use_cases, settings):
        where = _in_regions(session, use_cases, settings, regions)
        known = where.deliveries(MessageId(name))
        if not known:
            typer.echo(f"There is no message {screen.plain(name)} in the table of deliveries.", err=True)
            raise typer.Exit(1)
        _show(known, as_json=json)


def _content(data: str) -> Any:
    try:
        text = Path(data[1:]).read_text(encoding="utf-8") if data.startswith("@") else data
        return json_.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"the file can't be read: {error.strerror}.", param_hint="--data") from error
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            "it must be JSON, or @ and the name of a file.", param_hint="--data"
        ) from error


def _in_regions(session: Session, here: UseCases, settings: Settings, regions: str | None) -> _Regions:
    """Return the use cases in *regions*; by default in the settings' own."""
    if regions is None:
        return _Regions(session, {settings.region: here})
    names = [name for part in regions.split(",") if (name := part.strip())]
    if not names or not all(REGION.fullmatch(name) for name in names):
        raise InvalidSetting("--regions must be names of AWS regions, separated by commas.")
    return _Regions(session, {name: session.build(settings._replace(region=name)) for name in names})


def _show_price(where: _Regions, message: Message, audience: Audience, *, as_json: bool) -> None:
    counts = {region: it.read_recipients().count(audience) for region, it in where.use_cases.items()}
    recipients, frames = sum(counts.values()), -(-len(message.frame) // _A_FRAME)
    dollars = recipients * frames * _DOLLARS_PER_MILLION / 1_000_000
    if as_json:
        facts = {"recipients": counts, "frameBytes": len(message.frame), "dollars": dollars}
        typer.echo(json_.dumps(facts))
        return
    rows = {f"recipients in {region}": str(count) for region, count in counts.items()}
    rows["bytes to each"] = str(len(message.frame))
    rows["price"] = f"${dollars:.6f}, at ${_DOLLARS_PER_MILLION:.2f} per million messages of 32 KB"
    screen.console().print(screen.named(rows))
    typer.echo("This was a dry run: nothing was sent.", err=True)


def _show(known: Mapping[str, Delivery], *, as_json: bool) -> None:
    """Show the deliveries of one message by region, and their sum."""
    first = next(iter(known.values()))
    is_finished = all(it.finished_at for it in known.values())
    reports = {region: it.progress.report for region, it in known.items()}
    if as_json:
        facts = {"id": first.message_id, "audience": first.audience, "finished": is_finished}
        facts |= _facts(merged(reports.values()))
        if len(known) > 1:
            facts["regions"] = {region: _facts(report) for region, report in reports.items()}
        typer.echo(json_.dumps(facts))
        return
    rows = {"message": first.message_id, "audience": first.audience}
    rows["state"] = "finished" if is_finished else "under way"
    console = screen.console()
    console.print(screen.named(rows))
    console.print(_table(reports if len(reports) == 1 else reports | {"all": merged(reports.values())}))


def _table(reports: Mapping[str, DeliveryReport]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("")
    for region in reports:
        table.add_column(region, justify="right")
    table.add_row("selected", *(str(report.selected) for report in reports.values()))
    for outcome in Outcome:
        counts = [report.count(outcome) for report in reports.values()]
        if outcome is Outcome.DELIVERED or any(counts):
            table.add_row(_LABELS.get(outcome, outcome.value), *map(str, counts))
    delays = [report.percentile(_PERCENTILE) for report in reports.values()]
    if any(delay is not None for delay in delays):
        table.add_row("99 % within, ms", *("" if it is None else str(it // _MS) for it in delays))
    return table


def _facts(report: DeliveryReport) -> dict[str, Any]:
    facts: dict[str, Any] = {"selected": report.selected}
    facts |= {outcome.value: report.count(outcome) for outcome in Outcome}
    delay = report.percentile(_PERCENTILE)
    return facts | ({} if delay is None else {"p99Ms": delay // _MS})
