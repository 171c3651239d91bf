"""The commands: `ls`, `show`, `close`, `sweep`, `watch`."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli import screen
from app.cli.session import Session, about_credentials
from app.containers.command_line import CommandLine
from app.domain.errors import InvalidHandshake, InvalidSelection, StorageUnavailable
from app.domain.events import Event
from app.domain.lifecycle import ProbeResult
from app.domain.model import Connection, ConnectionId, account_id, client_id, connection_id, region_name
from app.domain.operations import Eviction
from app.domain.selection import Selection
from app.domain.sweep import Outcome
from app.settings import InvalidSetting, Settings, table_named

if TYPE_CHECKING:
    import io

cli = typer.Typer(
    help="Who is connected: list, show, close, sweep, watch; and send to them.\n\n"
    "The table is CONNECTIONS_TABLE, unless --table names another. Credentials and region are found as the "
    "SDK finds them: AWS_PROFILE, AWS_REGION, ... DynamoDB and the gateway are AWS's own, unless "
    "AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI, or AWS_ENDPOINT_URL for both, "
    "name other ones. A profile's endpoint_url applies to DynamoDB alone.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # a bug's traceback is plain text, for a bug report
)

_STARTED_BY = "uv run python -m app"
_A_YEAR = 525_600  # minutes
_A_DAY = 86_400  # seconds
_PERMISSION = "The caller needs the permission execute-api:ManageConnections."
_NO_ANSWER = "the gateway did not answer, or the item does not name its API."
_WHY_IT_STAYS = {
    ProbeResult.ALIVE: _NO_ANSWER,
    ProbeResult.GONE: "its handshake may still be pending. Try again in a minute.",
    ProbeResult.THROTTLED: "the gateway throttles requests. Try again.",
    ProbeResult.FORBIDDEN: f"the gateway refuses it. {_PERMISSION}",
    ProbeResult.FAILED: _NO_ANSWER,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in *arguments*, by default the process's; it ends with ``SystemExit``."""
    for stream in (sys.stdout, sys.stderr):
        # the terminal's encoding may lack characters of a client's name
        cast("io.TextIOWrapper", stream).reconfigure(errors="backslashreplace")
    cli(arguments, obj=Session(build=_container), prog_name=_STARTED_BY)


class _SilentPublisher:
    """EventPublisher of a sweep: its report says how many there were."""

    def publish(self, event: Event) -> None:  # noqa: ARG002 - the port's
        return


def _container(settings: Settings) -> CommandLine:
    return CommandLine(settings=settings, publisher=_SilentPublisher())


Id = Annotated[str, typer.Argument(metavar="ID", help="A connectionId; after -- if it begins with a hyphen.")]
Account = Annotated[str | None, typer.Option(metavar="ACCOUNT", help="Only those of this account.")]
Region = Annotated[
    str | None, typer.Option(metavar="REGION", help="Only those of this region; with --account.")
]
Client = Annotated[str | None, typer.Option(metavar="CLIENT", help="Only those of this clientId.")]


def _a_table(value: str | None) -> str | None:
    try:
        if value is not None and not table_named({"--table": value}, "--table"):
            raise typer.BadParameter("--table must not be empty.")
    except InvalidSetting as error:
        raise typer.BadParameter(str(error)) from error
    return value


@cli.callback()
def _options(
    context: typer.Context,
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="The table, instead of CONNECTIONS_TABLE.", callback=_a_table),
    ] = None,
) -> None:
    context.obj = replace(context.obj, table=table)


@cli.command()
def ls(
    context: typer.Context,
    *,
    account: Account = None,
    region: Region = None,
    client: Client = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, in no order.")] = False,
) -> None:
    """List who is connected, the newest first."""
    selection = _selection(account, region, client)
    session: Session = context.obj
    with session.open() as (use_cases, _):
        found = use_cases.list_connections().all(selection)
        if json:
            for connection in found:
                typer.echo(screen.as_json(connection))
            return
        connections = screen.newest_first(list(found))
        if connections:
            console = screen.console()
            console.print(screen.listed(connections, use_cases.clock().now(), console))
        typer.echo(screen.counted(len(connections)), err=True)


@cli.command()
def show(
    context: typer.Context,
    name: Id,
    *,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show all that is known of a connection."""
    id_ = _checked(name)
    session: Session = context.obj
    with session.open() as (use_cases, _):
        connection = _found(id_, use_cases.get_connection()(id_), "list")
        if json:
            typer.echo(screen.as_json(connection))
        else:
            screen.console().print(screen.shown(connection, use_cases.clock().now()))


@cli.command()
def close(
    context: typer.Context,
    name: Id,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Close a connection through the gateway.

    It may be past its time and so not in the list. The status is 0 if it is
    closed, or was gone already.
    """
    id_ = _checked(name)
    session: Session = context.obj
    with session.open() as (use_cases, _):
        evict = use_cases.evict_connection()
        connection = _found(id_, evict.find(id_), "table")
        if not yes:
            who = f"{connection.id} of {connection.client_id} at {connection.source_ip or 'no known address'}"
            typer.confirm(f"Close {screen.plain(who)}?", abort=True, err=True)
        eviction = _found(id_, evict(id_), "table")
    sentence = screen.plain(_outcome(eviction))
    if eviction.result is ProbeResult.CLOSED or eviction.deleted:
        typer.echo(sentence)
    else:
        typer.echo(sentence, err=True)
        raise typer.Exit(1)


@cli.command()
def sweep(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Probe and count, delete nothing.")] = False,
    segment: Annotated[
        int | None, typer.Option(min=0, help="Only this segment of SWEEP_SEGMENTS, from 0.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=_A_YEAR, help="Stop after so many minutes.")] = 15,
) -> None:
    """Probe each connection, and delete the items of those that are gone.

    The status is 1 if it did not finish.
    """
    session: Session = context.obj
    with session.open() as (use_cases, settings):
        segments = settings.sweep.segments
        if segment is not None and segment >= segments:
            raise typer.BadParameter(f"there are {segments}, from 0.", param_hint="--segment")
        until = use_cases.clock().now() + timedelta(minutes=minutes)
        numbers = range(segments) if segment is None else (segment,)
        reports = []
        with screen.waiting("Sweeping; Ctrl-C ends it."):
            for number in numbers:
                report = use_cases.sweep_connections()(
                    segment=number, of=segments, until=until, dry_run=dry_run
                )
                reports.append(report)
                if not report.finished:
                    break
    screen.console().print(screen.summed(reports))
    if dry_run:
        typer.echo("This was a dry run: nothing was deleted.", err=True)
    if any(report.outcomes[Outcome.FORBIDDEN] for report in reports):
        typer.echo(f"The gateway refused probes. {_PERMISSION}", err=True)
    if not report.finished:
        why = "its time was up."
        if report.fault:
            why = about_credentials(report.fault) or f"the table can't be read ({report.fault})."
        typer.echo(f"It ended in segment {report.segment}: {screen.plain(why)}", err=True)
        raise typer.Exit(1)


@cli.command()
def watch(
    context: typer.Context,
    *,
    account: Account = None,
    region: Region = None,
    client: Client = None,
    every: Annotated[
        float,
        typer.Option(
            min=0.5, max=_A_DAY, metavar="SECONDS", help="Interval; each refresh reads the whole selection."
        ),
    ] = 5,
) -> None:
    """Show who is connected, the newest first, until Ctrl-C."""
    selection = _selection(account, region, client)
    session: Session = context.obj
    with suppress(KeyboardInterrupt), session.open() as (use_cases, _):
        clock, list_connections = use_cases.clock(), use_cases.list_connections()
        seen: tuple[list[Connection], datetime] | None = None
        with screen.live(screen.console()) as display:
            while True:
                try:
                    seen = screen.newest_first(list(list_connections.all(selection))), clock.now()
                    line = screen.counted(len(seen[0]))
                except StorageUnavailable as error:
                    if seen is None:
                        raise
                    line = f"No answer ({error.reason}): this is the list of {seen[1]:%H:%M:%S} UTC."
                display(seen[0], clock.now(), line)
                session.pause(every)


def _checked(text: str) -> ConnectionId:
    try:
        return connection_id(text)
    except InvalidHandshake as error:
        raise typer.BadParameter(str(error)) from error


def _selection(account: str | None, region: str | None, client: str | None) -> Selection:
    try:
        return Selection(
            account_id(account) if account is not None else None,
            region_name(region) if region is not None else None,
            client_id(client) if client is not None else None,
        )
    except (InvalidHandshake, InvalidSelection) as error:
        raise typer.BadParameter(str(error)) from error


def _found[T](id_: ConnectionId, answer: T | None, where: str) -> T:
    if answer is None:
        typer.echo(f"There is no connection {screen.plain(id_)} in the {where}.", err=True)
        raise typer.Exit(1)
    return answer


def _outcome(eviction: Eviction) -> str:
    name = eviction.connection.id
    match eviction.result, eviction.deleted:
        case ProbeResult.CLOSED, True:
            return f"{name} is closed, and its item is deleted."
        case ProbeResult.CLOSED, False:
            return f"{name} is closed; its item could not be deleted. Its disconnect or a sweep will do that."
        case ProbeResult.GONE, True:
            return f"{name} was gone already; its item is deleted."
    return f"{name} stays: {_WHY_IT_STAYS[eviction.result]}"
