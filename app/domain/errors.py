"""What can go wrong, as facts.

SwitchboardError
├── InvalidHandshake      what the client or the gateway sent can't be recorded
├── AlreadyClosed         the connection had ended before it was recorded
├── InvalidSelection      a question about the list that can't be answered as it is asked (in upkeep)
└── StorageUnavailable    the store did not confirm what it was asked to do
"""


class SwitchboardError(Exception):
    """Every error that the domain names; anything else that is raised is a bug."""


class InvalidHandshake(SwitchboardError):
    """A handshake that can't be recorded as it is.

    The text is one plain sentence for the client. It names the field and the
    rule, never the value: what a client sent is not sent back.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}.")
        self.field = field


class AlreadyClosed(SwitchboardError):
    """A connection that had ended before it was recorded: nothing of it is in the store.

    Its ``$disconnect`` came first, or its id has gone to a later connection.
    """


class StorageUnavailable(SwitchboardError):
    """The store could not be reached, or not in time, or it refused the work for now.

    ``reason`` is the technology's own short name of the fault, for the log.
    ``outcome_unknown`` is true where a request went out and nobody said what
    became of it: what was asked may have been done all the same.
    """

    def __init__(self, reason: str, *, outcome_unknown: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome_unknown = outcome_unknown
