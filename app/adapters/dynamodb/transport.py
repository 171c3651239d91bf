"""The transport of DynamoDB requests: what the stores need of it, and DynamoDB's error codes."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

# DynamoDB's developer guide, 'Error handling with DynamoDB'. Any other code (a missing table, a denied
# action) is a fault of the deployment: it is raised as it is, as a bug.
THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
CREDENTIALS_REFUSED = frozenset({"ExpiredTokenException", "UnrecognizedClientException"})
CONDITION_FAILED = "ConditionalCheckFailedException"


class Answer(NamedTuple):
    """The body of a successful answer.

    ``outcome_unknown`` is true if an earlier attempt of the call was sent and
    not answered: it may have been carried out, too.
    """

    body: Mapping[str, Any]
    outcome_unknown: bool


class ConditionFailed(Exception):
    """The request's condition is false; ``item`` is what is there, if the request asked for it."""

    def __init__(self, item: object, *, outcome_unknown: bool) -> None:
        super().__init__()
        self.item = item
        self.outcome_unknown = outcome_unknown


class Transport(Protocol):
    """Carries requests to DynamoDB, with time-outs and retries.

    Repeating a write is safe here: it has a condition by which a second attempt
    changes nothing, or puts the same item again.
    """

    def call(self, operation: str, request: Mapping[str, Any]) -> Answer:
        """Send *request*, as DynamoDB's API reference has it for *operation*, such as ``PutItem``.

        Raises:
            ConditionFailed: the request's condition is false.
            StorageUnavailable: there is no answer, or DynamoDB refused the request for now.
        """
