"""The measured process: Lambda's runtime with the gateway's events on its standard input.

awslambdaric's bootstrap imports json, logging, decimal and more before a
function's own code starts: that is part of every subject's cold start.
awslambdaric's own functions set up the logging and load the handlers. Nothing
else is imported here, so that every other import counts for the subject.

Arguments: the handlers of $connect and $disconnect. Lines in: the first event;
then the plan, if there is more to measure. Lines out: the first answer; then
the measurements.
"""

import json
import sys
import time
from collections.abc import Callable

from awslambdaric import bootstrap  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group bench

CONNECTION_ID = "CONNECTION-ID"
"""The placeholder for the call's id in an event of the plan."""

type Answer = dict[str, object]
type Handler = Callable[[object, object], Answer]

CONNECTED: Answer = {"statusCode": 200, "body": "connected"}
DISCONNECTED: Answer = {"statusCode": 200, "body": "disconnected"}


def main(connect_handler: str, disconnect_handler: str) -> None:
    """Answer the events with the handlers of those names."""
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
    """Return the wall and CPU time (ns) of each call, without the time to make its event."""
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
    """Return this program's peak memory (kB); on Linux, ru_maxrss includes the parent's."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib must not be imported yet
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except FileNotFoundError:
        import resource  # noqa: PLC0415 - only after the measurement

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes on macOS


def _check(answer: Answer, expected: Answer) -> None:
    if answer != expected:
        raise SystemExit(f"It answered {answer}, not {expected}.")
