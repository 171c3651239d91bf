"""The process that is measured: Lambda's runtime with the gateway's events on its standard input.

What awslambdaric's bootstrap imports (json, logging, decimal among it) a real
function finds imported when its own code starts: it is part of the cold start
of every subject alike, and no subject pays for it again. Logging is set up and
handlers are loaded by awslambdaric's own functions. Nothing else is imported
here, so that a subject pays for whatever else it wants.

Arguments: the handlers of $connect and $disconnect. Lines in: the first event;
then the plan, if there is more to measure. Lines out: the first answer; then
what was measured.
"""

import json
import sys
import time
from collections.abc import Callable

from awslambdaric import bootstrap  # type: ignore[import-not-found,import-untyped,unused-ignore]

CONNECTION_ID = "CONNECTION-ID"
"""Stands in an event of the plan for the id of the call."""

type Answer = dict[str, object]
type Handler = Callable[[object, object], Answer]

CONNECTED: Answer = {"statusCode": 200, "body": "connected"}
DISCONNECTED: Answer = {"statusCode": 200, "body": "disconnected"}


def main(connect_handler: str, disconnect_handler: str) -> None:
    """Answer what comes in with the handlers of those names."""
    with bootstrap.create_log_sink() as sink:
        bootstrap._setup_logging(bootstrap._AWS_LAMBDA_LOG_FORMAT, bootstrap._AWS_LAMBDA_LOG_LEVEL, sink)
        began = time.perf_counter_ns()
        connect = bootstrap._get_handler(connect_handler)
        loaded = time.perf_counter_ns()
        answer = connect(json.loads(sys.stdin.readline()), None)
        answered = time.perf_counter_ns()
        cold_cpu = time.process_time_ns()
        print(json.dumps(answer), flush=True)
        _check(answer, CONNECTED)

        line = sys.stdin.readline()
        if not line:
            return
        plan = json.loads(line)
        disconnect = bootstrap._get_handler(disconnect_handler)
        _timed(connect, plan["connect"], plan["warm_up_ids"], CONNECTED)
        _timed(disconnect, plan["disconnect"], plan["warm_up_ids"], DISCONNECTED)
        measured = {
            "load_ns": loaded - began,
            "first_call_ns": answered - loaded,
            "cold_cpu_ns": cold_cpu,
            "connect": _timed(connect, plan["connect"], plan["ids"], CONNECTED),
            "disconnect": _timed(disconnect, plan["disconnect"], plan["ids"], DISCONNECTED),
            "memory_kb": peak_memory(),
        }
        print(json.dumps(measured), flush=True)


def _timed(handler: Handler, event: str, ids: list[str], expected: Answer) -> dict[str, list[int]]:
    """Wall and CPU time (ns) of each call, the making of its event left out."""
    walls, cpus = [], []
    for connection_id in ids:
        fresh = json.loads(event.replace(CONNECTION_ID, connection_id))
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        answer = handler(fresh, None)
        walls.append(time.perf_counter_ns() - wall)
        cpus.append(time.process_time_ns() - cpu)
        _check(answer, expected)
    return {"wall_ns": walls, "cpu_ns": cpus}


def peak_memory() -> int:
    """This program's own peak (kB); ru_maxrss would count that of the process that started it (Linux)."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib is not for the subjects to find
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except FileNotFoundError:
        import resource  # noqa: PLC0415 - nothing of this before the end

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes on macOS


def _check(answer: Answer, expected: Answer) -> None:
    if answer != expected:
        raise SystemExit(f"It answered {answer}, not {expected}.")
