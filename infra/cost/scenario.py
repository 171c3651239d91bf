"""What is priced: the numbers of a workload, and the ways to serve it."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from infra.cost.template import Fixed, Template

MONTH = 30
"""Days of a month."""
SLICES = 12
"""Connections in a day of a client that stays: API Gateway ends each after 2 h."""

LEAN = {
    "Architecture": "arm64",
    "ClientIndex": "false",
    "AccountIndex": "false",
    "CreateDashboard": "false",
    "SystemLogLevel": "WARN",
    "LogRetentionDays": "1",
}
"""The parameters that cost least and break no promise of the README; with the cheapest ``MemorySize``."""

_ID = "8f5f6b5e-3c1a-4b0e-9a55-0d6c3f2e7a11"
_TIME = "2026-11-29T08:30:00.123Z"
_REPORT = {
    "durationMs": 12.34,
    "billedDurationMs": 13,
    "memorySizeMB": 512,
    "maxMemoryUsedMB": 62,
}
_ARN = "arn:aws:lambda:us-east-1:123456789012:function:incidents-ConnectFunction-1A2B3C4D5E6F"
_RECORDS = (  # the shapes: Lambda's developer guide, 'Lambda Telemetry API Event schema reference'
    {
        "time": _TIME,
        "type": "platform.start",
        "record": {"requestId": _ID, "functionArn": _ARN, "version": "$LATEST"},
    },
    {
        "time": _TIME,
        "type": "platform.report",
        "record": {"requestId": _ID, "metrics": _REPORT, "status": "success"},
    },
)
PLATFORM_BYTES = sum(len(json.dumps(record, separators=(",", ":"))) for record in _RECORDS)
"""Of what Lambda itself logs of an invocation, as JSON."""
PLATFORM_TEXT_BYTES = len(
    f"START RequestId: {_ID} Version: $LATEST\nEND RequestId: {_ID}\n"
    f"REPORT RequestId: {_ID}\tDuration: 12.34 ms\tBilled Duration: 13 ms\t"
    "Memory Size: 512 MB\tMax Memory Used: 62 MB\t\n"
)
"""The same as text, by default."""

_ACCESS_LOG = {  # values as long as API Gateway's
    "$context.requestId": "Lm3OeGFvIAMFa1A=",
    "$context.extendedRequestId": "Lm3OeGFvIAMFa1A=",
    "$context.requestTime": "29/Nov/2026:08:30:00 +0000",
    "$context.eventType": "DISCONNECT",
    "$context.routeKey": "$disconnect",
    "$context.stage": "prod",
    "$context.connectionId": "JKJaXeXAmPl3AbC=",
    "$context.identity.sourceIp": "203.0.113.124",
    "$context.status": "200",
    "$context.error.responseType": "-",
    "$context.integrationStatus": "200",
    "$context.integrationLatency": "12",
}


class Workload(NamedTuple):
    """A month's numbers; ``cold`` is the share of cold starts, ``batch`` the stream's records per invocation.

    ``returning`` is the share of connections whose client comes back and says what it has.
    ``store_ms`` and ``gateway_ms`` is what a call waits for DynamoDB or SQS, and for API Gateway.
    """

    open: int = 1000
    lifecycles: int = 1000 * SLICES * MONTH
    deliveries: int = 1_000_000
    recipients: int = 100
    returning: float = 1.0
    message_bytes: int = 1000
    cold: float = 0.01
    batch: int = 1
    store_ms: float = 5
    gateway_ms: float = 10


class Ours(NamedTuple):
    """A stack of the template, by its parameters."""

    given: dict[str, str]
    values: Mapping[str, str]
    fixed: Fixed

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "Ours":
        """Return the stack with *parameters*.

        Raises:
            ValueError: the template has none of that name, or refuses a value.
        """
        template = Template(parameters)
        return cls(dict(parameters), template.values, template.fixed())

    def with_memory(self, size: int) -> "Ours":
        return self._replace(values={**self.values, "MemorySize": str(size)})

    @property
    def memory(self) -> int:
        return int(self.values["MemorySize"])

    @property
    def architecture(self) -> str:
        return self.values["Architecture"]

    def number(self, name: str) -> int:
        return int(self.values[name])

    def is_on(self, name: str) -> bool:
        return self.values[name] == "true"

    def platform_bytes(self, *functions: str) -> int:
        """Return the bytes of Lambda's own records of an invocation of each of the *functions*."""
        return PLATFORM_BYTES * sum(name in self.fixed.reported for name in functions)

    @property
    def access_log_bytes(self) -> int:
        """Of an access log record of API Gateway."""
        text = self.fixed.access_log
        for variable in sorted(_ACCESS_LOG, key=len, reverse=True):
            text = text.replace(variable, _ACCESS_LOG[variable])
        return len(text)
