"""The domain's errors.

SwitchboardError
├── InvalidHandshake      the client or the gateway sent a value that breaks its rule
├── Denied                the client may not come in
├── KeysUnavailable       there are no keys to check a token with
├── IssuerUnavailable     the issuer's keys could not be fetched
├── AlreadyClosed         the connection closed before it was recorded
├── InvalidSelection      a selection or a page token that can't be used
├── InvalidMessage        a message that can't be sent
├── AlreadyDelivered      the message was delivered before
├── DeliveryClaimed       another invocation delivers the message now
├── QueueUnavailable      the queue did not take a message
├── EventsUnavailable     the bus did not take an event
├── NotCaughtUp           the gateway did not take what a client has missed
└── StorageUnavailable    the store did not confirm a request
"""


class SwitchboardError(Exception):
    """Base of all errors that the domain defines. Any other exception is a bug."""


class InvalidHandshake(SwitchboardError):
    """A handshake with an invalid value.

    The text is a sentence for the client. It names the field and the rule, never
    the value, so that nothing a client sent is echoed back.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}.")
        self.field = field


class Denied(SwitchboardError):
    """A handshake of somebody who may not come in. Nothing is stored.

    ``reason`` is one of admission.Reason, for the log. ``principal`` is who shows the
    token, if its signature held; ``origin`` is that of the web page, if it is refused;
    ``source_ip`` is where the handshake comes from.
    """

    def __init__(self, reason: str, principal: str | None = None, *, origin: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.principal = principal
        self.origin = origin
        self.source_ip = ""


class KeysUnavailable(SwitchboardError):
    """There are no keys to check a token with, or only old ones; ``reason`` is short, for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class IssuerUnavailable(SwitchboardError):
    """The issuer's keys could not be fetched, or none is usable; ``reason`` is short, for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AlreadyClosed(SwitchboardError):
    """The connection closed before it was recorded, or its id belongs to a newer connection.

    Nothing is stored.
    """


class InvalidSelection(SwitchboardError):
    """A selection or a page token that can't be used; the text says why."""


class InvalidMessage(SwitchboardError):
    """A message that can't be sent, today or ever; the text says why."""


class AlreadyDelivered(SwitchboardError):
    """A message of this id was delivered before, or as far as it could be."""


class DeliveryClaimed(SwitchboardError):
    """Another invocation delivers the message now, or has taken it over."""


class QueueUnavailable(SwitchboardError):
    """The queue did not take a message; ``reason`` is the technology's own short error name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EventsUnavailable(SwitchboardError):
    """The bus did not take an event; ``reason`` is the technology's own short error name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotCaughtUp(SwitchboardError):
    """The gateway did not take what a client has missed; ``reason`` is its answer, for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StorageUnavailable(SwitchboardError):
    """The store was unreachable, timed out, or refused the request for now.

    ``reason`` is the technology's own short error name, for the log.
    ``outcome_unknown`` is true if an attempt was sent and not answered: the
    write may have been applied.
    """

    def __init__(self, reason: str, *, outcome_unknown: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome_unknown = outcome_unknown
