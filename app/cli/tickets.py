"""The command of tickets: `ticket`."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import screen
from app.cli.commands import cli
from app.domain.tickets import MAX_TICKET_LIFETIME

if TYPE_CHECKING:
    from app.cli.session import Session

_LONGEST = MAX_TICKET_LIFETIME // timedelta(seconds=1)


@cli.command()
def ticket(
    context: typer.Context,
    *,
    client: Annotated[str, typer.Option(metavar="CLIENT", help="The clientId that it admits.")],
    account: Annotated[str, typer.Option(metavar="ACCOUNT", help="The client's account; may be empty.")],
    region: Annotated[str, typer.Option(metavar="REGION", help="The client's region; may be empty.")],
    seconds: Annotated[
        int, typer.Option(min=1, max=_LONGEST, metavar="SECONDS", help="How long it is good.")
    ] = _LONGEST,
) -> None:
    """Mint a ticket that admits a client once, and print it.

    It is kept in TICKETS_TABLE, and needs ADMISSION=ticket or, besides tokens,
    ADMISSION=token.
    """
    session: Session = context.obj
    with session.open(variable="TICKETS_TABLE") as (use_cases, _):
        minted = use_cases.mint_ticket()(client, account, region, timedelta(seconds=seconds))
    typer.echo(minted.secret)
    typer.echo(
        f"Connect with ?ticket=... in the URL within {seconds} s: it admits {screen.plain(minted.client_id)} "
        "once.",
        err=True,
    )
