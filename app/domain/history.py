"""The history: messages that are kept for clients that come back, by what they were addressed to."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NewType

from app.domain.delivery import Audience, MessageId
from app.domain.lifecycle import ConnectionRef
from app.domain.model import Connection

Scope = NewType("Scope", str)
"""What a message was addressed to: everyone, a client, or an account."""

UNDER_WAY_FOR = timedelta(hours=2)
"""How long a message whose delivery does not finish is kept after its last invocation has begun."""
NOW = "@now"
"""What a client has as its last message that has none yet."""

OVERLAP = timedelta(seconds=10)
"""How much earlier a look begins: functions' clocks differ, and the gateway promises no order."""
KEPT_LONGER = timedelta(minutes=5)
"""How much longer than it has to a store keeps a message, since a look may come late."""

_EVERYONE = Scope("everyone")
_ANY_ACCOUNT = Scope("account")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MAX_DIGITS = 13  # of a position, until the year 2286


class Place(NamedTuple):
    """Where a message is in the history: when its delivery finished, and its id."""

    finished_at: datetime
    message_id: MessageId = MessageId("")


class KeptMessage(NamedTuple):
    """A message in the history. From ``expires_at`` on it is not sent any more; ``None`` means never."""

    id: MessageId
    frame: bytes
    audience: Audience
    expires_at: datetime | None = None


class CatchUp(NamedTuple):
    """A request: look into the history for a client that has come back, and says that it has *since*.

    ``after`` is the place after which it has messages to get; ``None`` until that is
    known. ``told`` are those after it that it has got. ``is_second`` tells the second
    look, after which the client is caught up, from the first.
    """

    ref: ConnectionRef
    since: str
    after: Place | None = None
    told: tuple[MessageId, ...] = ()
    is_second: bool = False


def scopes_of(audience: Audience, *, unscoped: bool) -> tuple[Scope, ...]:
    """Return the scopes under which a message to *audience* is kept.

    *unscoped*: whether connections without an account get what an account is
    sent. A message to one connection is not kept: nobody has that connection again.
    """
    if audience.connection_id is not None:
        return ()
    if audience.everyone:
        return (_EVERYONE,)
    if audience.client_id is not None:
        return (_of_client(audience.client_id),)
    of_account = _of_account(audience.account or "")
    return (of_account, _ANY_ACCOUNT) if unscoped else (of_account,)


def scopes_for(connection: Connection, *, unscoped: bool) -> tuple[Scope, ...]:
    """Return the scopes that have every message which *connection* may get; they have others, too."""
    scopes = _EVERYONE, _of_client(connection.client_id)
    if connection.account:
        return (*scopes, _of_account(connection.account))
    return (*scopes, _ANY_ACCOUNT) if unscoped else scopes


def position(at: datetime) -> str:
    """Return a moment as clients get it, to say it when they come back: ``@`` and epoch milliseconds."""
    return f"@{(at - _EPOCH) // _MILLISECOND}"


def moment(since: str) -> datetime | None:
    """Return the moment that a position stands for; ``None`` if *since* is no position."""
    digits = since[1:]
    if since[:1] != "@" or not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_DIGITS:
        return None
    return _EPOCH + int(digits) * _MILLISECOND


def _of_client(name: str) -> Scope:
    return Scope(f"client {name}")


def _of_account(name: str) -> Scope:
    return Scope(f"account {name}")
