"""The words of sending: a message, its audience, what became of each recipient, and the report of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import log10
from typing import NamedTuple, NewType

from app.domain.errors import InvalidMessage
from app.domain.model import AccountId, ClientId, Connection, ConnectionId, RegionName
from app.domain.selection import Selection

MessageId = NewType("MessageId", str)

MAX_FRAME = 128 * 1024
"""Bytes of what a client gets (API Gateway's quotas page, 'WebSocket message payload size')."""
KEPT_FOR = timedelta(days=15)
"""How long a delivery is remembered: longer than the dead-letter queue keeps its message."""

_UNSCOPED = Selection(account=AccountId(""))
_STEPS_PER_DECADE = 20  # of a delay: 12 % each
_MILLISECOND = timedelta(milliseconds=1)


class Message(NamedTuple):
    """What is sent. Clients get ``frame``: the JSON object of ``id``, ``time``, ``type`` and ``data``.

    ``digest`` tells what is sent, and to whom, from anything else under the same
    id. From ``expires_at`` on it is not sent any more; ``None`` means never.
    """

    id: MessageId
    time: datetime
    type: str
    frame: bytes
    digest: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """To whom a message goes: an account, a client, one connection, or everyone.

    An event of an account and a region concerns the connections of that account
    whose region is that one or empty: those watch all of the account. Without a
    region it concerns all of the account. A connection without an account watches
    all accounts; whether it gets what an account is sent is a setting.

    Raises:
        InvalidMessage: it says none of these, several, or a region without an account.
    """

    account: AccountId | None = None
    region: RegionName | None = None
    client_id: ClientId | None = None
    connection_id: ConnectionId | None = None
    everyone: bool = False

    def __post_init__(self) -> None:
        scope = self.account, self.region, self.client_id
        if self.account == "" or self.region == "":
            raise InvalidMessage("The audience's account and region must not be empty: leave them out.")
        if self.region is not None and self.account is None:
            raise InvalidMessage("The audience has a region without its account.")
        kinds = [self.everyone, self.connection_id is not None, any(it is not None for it in scope)]
        if sum(kinds) != 1:
            raise InvalidMessage("The audience must name an account, a client, a connection, or everyone.")

    def selections(self, *, unscoped: bool) -> tuple[Selection, ...]:
        """Return disjoint selections that have every recipient between them; they may have others, too.

        *unscoped*: whether connections without an account get what an account is
        sent. One connection is looked up by its id, so it has no selection.
        """
        if self.connection_id is not None:
            return ()
        if self.everyone:
            return (Selection(),)
        if self.client_id is not None:
            return (Selection(client_id=self.client_id),)
        regions = (None,) if self.region is None else (self.region, RegionName(""))
        of_account = tuple(Selection(account=self.account, region=region) for region in regions)
        return (*of_account, _UNSCOPED) if unscoped else of_account

    def includes(self, connection: Connection, *, unscoped: bool) -> bool:
        """Return whether *connection*, which one of the selections has, is a recipient."""
        if self.client_id not in (None, connection.client_id):
            return False
        if self.account is None:
            return True
        if not connection.account:
            return unscoped
        return connection.account == self.account and (
            self.region is None or connection.region in ("", self.region)
        )

    def __str__(self) -> str:
        if self.everyone:
            return "everyone"
        named = {
            "account": self.account,
            "region": self.region,
            "client": self.client_id,
            "connection": self.connection_id,
        }
        return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)


class SendResult(StrEnum):
    """What the gateway answers when it is given a message for a connection."""

    DELIVERED = "delivered"
    GONE = "gone"
    """Not found. Also said of a connection whose handshake is still pending."""
    THROTTLED = "throttled"
    """The account's rate, or this client's buffer is full."""
    FORBIDDEN = "forbidden"
    TOO_LARGE = "tooLarge"
    FAILED = "failed"
    """Refused for another reason, or never sent; or the connection's entry does not name its API."""
    UNANSWERED = "unanswered"
    """The request went out, and no answer came: it may have been delivered."""


class Outcome(StrEnum):
    """What became of a recipient. Each that was selected has exactly one."""

    DELIVERED = "delivered"
    GONE = "gone"
    """It has ended; its entry is deleted, by a sweep if the store does not confirm."""
    YOUNG_GONE = "youngGone"
    """Not found for as long as its handshake might be pending; its entry is kept."""
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "tooLarge"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """A request went out that was not answered, and no later one was known to be delivered."""
    EXPIRED = "expired"
    """The message's time was over first."""
    LEFT = "left"
    """Left for another invocation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """How many recipients were selected, and what became of them.

    ``delays`` counts those delivered by the time from the message's own to its
    delivery, in logarithmic steps of 12 %.
    """

    selected: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    delays: Mapping[int, int] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        """Return how many recipients had that *outcome*."""
        return self.outcomes.get(outcome, 0)

    def percentile(self, share: float) -> timedelta | None:
        """Return the delay within which that *share* of the delivered got it; ``None`` if nobody did."""
        wanted = sum(self.delays.values()) * share
        for step in sorted(self.delays):
            wanted -= self.delays[step]
            if wanted <= 0:
                return _MILLISECOND * round(10 ** ((step + 1) / _STEPS_PER_DECADE))
        return None


class Retry(NamedTuple):
    """A recipient to be tried again: the answers that it has had so far, by kind.

    ``unknown`` is true if a request went out that was not answered.
    """

    connection_id: ConnectionId
    throttled: int = 0
    failed: int = 0
    young: int = 0
    unknown: bool = False


class Progress(NamedTuple):
    """How far a delivery has come: everything before a page is settled, apart from some to be tried again.

    The page is the one *after* a token, of the selection with that number.
    """

    report: DeliveryReport = DeliveryReport()
    selection: int = 0
    after: str | None = None
    retries: tuple[Retry, ...] = ()


class Delivery(NamedTuple):
    """A message's delivery. ``claim`` tells the invocation that works on it from any other."""

    message_id: MessageId
    audience: str
    digest: str
    started_at: datetime
    claim: str = ""
    progress: Progress = Progress()
    finished_at: datetime | None = None


def merged(reports: Iterable[DeliveryReport]) -> DeliveryReport:
    """Return the sums of *reports*."""
    selected = 0
    outcomes: Counter[Outcome] = Counter()
    delays: Counter[int] = Counter()
    for report in reports:
        selected += report.selected
        outcomes.update(report.outcomes)
        delays.update(report.delays)
    return DeliveryReport(selected=selected, outcomes=outcomes, delays=delays)


def checked(message: Message) -> Message:
    """Return *message*.

    Raises:
        InvalidMessage: it is longer than API Gateway allows.
    """
    if len(message.frame) > MAX_FRAME:
        raise InvalidMessage(
            f"The message has {len(message.frame)} bytes as clients get it; {MAX_FRAME} are allowed."
        )
    return message


def delay_step(delay: timedelta) -> int:
    """Return the step of ``DeliveryReport.delays`` that *delay* belongs to."""
    return int(_STEPS_PER_DECADE * log10(max(delay / _MILLISECOND, 1)))
