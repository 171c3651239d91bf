"""A function of any kind in Lambda's runtime: what its invocations take in CPU, memory and log records.

Arguments: the handler, and the number of invocations before those that count. Lines in: a kind and
an event in JSON, one per invocation. A line out: the measurements, the invocations' by kind.
"""

import json
import sys
import time
from statistics import fmean

from awslambdaric import bootstrap  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group bench
from driver import peak_memory  # type: ignore[import-not-found,unused-ignore]  # beside it in build/bench

_REQUEST_ID = "8f5f6b5e-3c1a-4b0e-9a55-0d6c3f2e7a11"
_REMAINING_MS = 120_000


class Context:
    """Lambda's context of an invocation, as far as handlers read it."""

    aws_request_id = _REQUEST_ID

    def get_remaining_time_in_millis(self) -> int:
        return _REMAINING_MS


class Sink:
    """Counts the bytes of log records in place of sending them."""

    def __init__(self) -> None:
        self.size = 0

    def log(self, record: str, frame_type: object = None) -> None:
        self.size += len(record.rstrip("\n").encode())


def main(handler_name: str, warm_up: str) -> None:
    """Invoke the handler of that name with each event."""
    sink, context = Sink(), Context()
    bootstrap._GLOBAL_AWS_REQUEST_ID = _REQUEST_ID
    bootstrap._setup_logging(bootstrap._AWS_LAMBDA_LOG_FORMAT, bootstrap._AWS_LAMBDA_LOG_LEVEL, sink)
    handler = bootstrap._get_handler(handler_name)
    cold_cpu: int | None = None
    cpus: dict[str, list[int]] = {}
    sizes: dict[str, list[int]] = {}
    for number, line in enumerate(sys.stdin):
        kind, event = json.loads(line)
        cpu, size = time.process_time_ns(), sink.size
        handler(event, context)
        if cold_cpu is None:
            cold_cpu = time.process_time_ns()  # since the start of the process
        if number >= int(warm_up):
            cpus.setdefault(kind, []).append(time.process_time_ns() - cpu)
            sizes.setdefault(kind, []).append(sink.size - size)
    measured = {
        "cold_cpu_ns": cold_cpu,
        "memory_kb": peak_memory(),
        "cpu_ns": {kind: fmean(values) for kind, values in cpus.items()},
        "log_bytes": {kind: fmean(values) for kind, values in sizes.items()},
    }
    print(json.dumps(measured), flush=True)
