"""One measurement: a new process of a subject, from its start to its last call."""

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from uuid import uuid4

from tests.benchmarks.assemble import PYTHON
from tests.benchmarks.driver import CONNECTED, CONNECTION_ID
from tests.benchmarks.subjects import Backend, Subject
from tests.builders import an_event

type Sample = Mapping[str, float]
"""The measurements of one process, by the figure's name."""

_PYTHON = (str(PYTHON), "-s", "-P", "-c")  # -c imports a module, so that its byte code is used
DRIVER = (*_PYTHON, "import sys, driver; driver.main(*sys.argv[1:])")
_BARE = (*_PYTHON, "import sys, bare; bare.main(sys.argv[1])")
_TIMEOUT = 600  # seconds; valgrind is fifty times slower
_NS_PER_MS = 1e6
_NS_PER_US = 1e3


class SubjectFailed(Exception):
    """A subject gave a wrong answer or none; the text is the end of its output."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of a process: ``warm_up`` and then ``measured`` pairs of events, each with its own id."""

    warm_up: int
    measured: int


def measure(subject: Subject, backend: Backend, calls: Calls) -> Sample:
    """Start processes of *subject*, call them, and return the measurements.

    Cold starts are timed here, from before the start of the process to its
    first answer: ``bare_cold_ms`` without Lambda's runtime, ``cold_ms`` with it.
    The second process measures the rest with its own clocks: ``init_ms`` from
    before the import of the handler's module to the first answer; CPU is user
    and system time of all threads.

    Raises:
        SubjectFailed: it ended early, or answered wrongly.
    """
    bare_ns, _ = _run(subject, backend, _BARE, b"")
    cold_ns, measured = _run(subject, backend, DRIVER, _plan(subject, calls))
    return {
        "bare_cold_ms": bare_ns / _NS_PER_MS,
        "cold_ms": cold_ns / _NS_PER_MS,
        **_figures(json.loads(measured)),
    }


def _run(subject: Subject, backend: Backend, command: Sequence[str], more: bytes) -> tuple[int, bytes]:
    """Return the nanoseconds to the first answer of a new process, and its output after *more* input."""
    first = _connect_event(subject, f"first-{uuid4().hex}")
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as errors:
        began = time.perf_counter_ns()
        with start(subject, backend, log.fileno(), errors.fileno(), command) as process:
            assert process.stdin
            assert process.stdout
            try:
                process.stdin.write(first)
                process.stdin.flush()
                answer = process.stdout.readline()
                took = time.perf_counter_ns() - began
                output = process.communicate(more, timeout=_TIMEOUT)[0] if answer else b""
            finally:
                process.kill()
        if process.returncode or not answer or json.loads(answer) != CONNECTED or (more and not output):
            errors.seek(0)
            log.seek(0)
            text = (answer + errors.read() + log.read()).decode(errors="replace").strip()
            raise SubjectFailed(f"{subject.name} against {backend.name}: {text[-2000:]}")
    return took, output


def start(
    subject: Subject, backend: Backend, log: int, errors: int, command: Sequence[str]
) -> "subprocess.Popen[bytes]":
    """Start a process of *subject* that writes its log records to *log*, as Lambda's runtime does."""
    handlers = [f"{subject.module}.{route}" for route in ("connect", "disconnect")]
    return subprocess.Popen(
        [*command, *handlers],
        env=subject.environ_for(backend) | {"_LAMBDA_TELEMETRY_LOG_FD": str(log)},
        cwd=subject.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        pass_fds=[log],
    )


def conversation(subject: Subject, calls: Calls | None) -> bytes:
    """Return the whole input of a process: the first event and, with *calls*, the plan."""
    return _connect_event(subject, "first") + (_plan(subject, calls) if calls else b"")


def _connect_event(subject: Subject, connection_id: str) -> bytes:
    event = a_gateway_event("connect_browser", subject.headers, subject.query)
    return (event.replace(CONNECTION_ID, connection_id) + "\n").encode()


def _plan(subject: Subject, calls: Calls) -> bytes:
    run = uuid4().hex[:8]
    plan = {
        "connect": a_gateway_event("connect_browser", subject.headers, subject.query),
        "disconnect": a_gateway_event("disconnect_client_closed_1005"),
        "warm_up_ids": [f"{run}w{number}=" for number in range(calls.warm_up)],
        "ids": [f"{run}m{number}=" for number in range(calls.measured)],
    }
    return (json.dumps(plan) + "\n").encode()


def a_gateway_event(
    name: str, headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None
) -> str:
    """Return a full-size event as text, with the placeholder for the id."""
    event = an_event(name)
    event["requestContext"]["connectionId"] = CONNECTION_ID
    for section, more in (("headers", headers), ("queryStringParameters", query)):
        if more:
            many = f"multiValue{section[0].upper()}{section[1:]}"
            event[section] |= more
            event[many] |= {key: [value] for key, value in more.items()}
    return json.dumps(event)


def _figures(measured: Mapping[str, dict[str, list[int]] | int]) -> dict[str, float]:
    """Return CPU as a mean, so that rare costs such as garbage collection count, and wall as a median."""
    plain = {name: value for name, value in measured.items() if isinstance(value, int)}
    figures = {
        "init_ms": (plain["load_ns"] + plain["first_call_ns"]) / _NS_PER_MS,
        "cold_cpu_ms": plain["cold_cpu_ns"] / _NS_PER_MS,
        "memory_mb": plain["memory_kb"] * 1024 / 1e6,
    }
    for route, times in measured.items():
        if isinstance(times, dict) and times["wall_ns"]:
            figures[f"{route}_wall_us"] = median(times["wall_ns"]) / _NS_PER_US
            figures[f"{route}_mean_wall_us"] = fmean(times["wall_ns"]) / _NS_PER_US
            figures[f"{route}_cpu_us"] = fmean(times["cpu_ns"]) / _NS_PER_US
    return figures
