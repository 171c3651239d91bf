"""``make bench``: every subject against every backend, side by side, and the comparison.

A pair is one new process per subject and backend. The order of the subjects
is reversed with every pair, and the first pair is discarded. Only samples of
the same minute are compared.

``send``: sending instead, beside its peers and under faults. ``admission``: handshakes
with a token or a ticket. ``presence``: what presence costs in read and write units.
``snapstart``: the first handshake after a restore. ``cost``: the figures of ``make cost``.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.benchmarks.admission import measure_admission
from tests.benchmarks.assemble import BUILD, CHECKOUT, assemble, size
from tests.benchmarks.chart import draw
from tests.benchmarks.cost import measure_cost
from tests.benchmarks.figures import LOCAL, STUB, STUB_TLS, SWEEP, compare
from tests.benchmarks.imports import import_tree, show_imports
from tests.benchmarks.instructions import can_count, count
from tests.benchmarks.measure import Calls, Sample, SubjectFailed, measure
from tests.benchmarks.presence import measure_presence
from tests.benchmarks.report import (
    a_console,
    show,
    show_instructions,
    show_sizes,
    show_sweep_memory,
    show_verdicts,
    write_json,
    write_verdicts,
)
from tests.benchmarks.send import measure_sending
from tests.benchmarks.servers import authority, dynamodb_local, stub
from tests.benchmarks.snapstart import measure_snapstart
from tests.benchmarks.subjects import FLOOR, LIMIT, OURS, OURS_BOTO3, SEED, SUBJECTS, Backend, Subject
from tests.benchmarks.sweep import measure_sweeps

_ALL = {STUB: "stub", STUB_TLS: "tls", LOCAL: "local"}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    pairs: int
    calls: Calls
    backends: Sequence[str]
    instructions: bool
    part: str | None
    seed: int


def main() -> None:
    options = _options()
    console = a_console()
    if options.part == "send":
        _send(console, options.seed)
    elif options.part == "admission":
        _admission(console, options.pairs)
    elif options.part == "presence":
        _presence(console)
    elif options.part == "snapstart":
        _snapstart(console, options.pairs)
    elif options.part == "cost":
        _cost(console, options.pairs)
    else:
        _compare(console, options)


def _compare(console: Console, options: Options) -> None:
    began = time.monotonic()
    console.print("Assembling the functions in build/bench ...")
    assemble()
    with ExitStack() as stack:
        backends = _backends(stack, options.backends)
        subjects = _subjects_that_answer(console, backends[0])
        samples = _measured(console, options, subjects, backends)
        comparisons = [line for backend in backends for line in compare(backend.name, samples[backend.name])]
        sizes = {OURS: size(BUILD / OURS), SEED: size(BUILD / SEED)}
        tree = import_tree(next(it for it in subjects if it.name == OURS), backends[0])
        counts = _counted(console, subjects, backends) if options.instructions else None
    with console.status("sweeping"):
        sweeps = measure_sweeps()
    comparisons += sweeps.comparisons

    console.print()
    show_imports(console, tree, from_ms=0.5)
    show(console, comparisons)
    show_sweep_memory(console, sweeps.memory)
    if counts:
        show_instructions(console, counts)
    show_sizes(console, sizes, "Added to the base image (size of build/bench/ours)")
    write_json(
        CHECKOUT / "build" / "bench.json",
        target="bench",
        calls=options.calls,
        samples=samples | {SWEEP: sweeps.samples},
        comparisons=comparisons,
        sizes=sizes,
        instructions=counts,
        sweepMemoryBytes=sweeps.memory,
    )
    draw(comparisons, CHECKOUT / "build" / "bench.png")
    console.print(
        f"{options.pairs} pairs in {time.monotonic() - began:.0f} s; build/bench.json, build/bench.png"
    )


def _send(console: Console, seed: int) -> None:
    began = time.monotonic()
    with console.status("") as status:
        verdicts = measure_sending(seed, status.update)
    show_verdicts(console, "Sending", verdicts)
    write_verdicts(CHECKOUT / "build" / "bench-send.json", verdicts, seed=seed)
    console.print(
        f"seed {seed}; {time.monotonic() - began:.0f} s; load average {os.getloadavg()[0]:.1f} "
        f"on {os.cpu_count()} cores; build/bench-send.json"
    )


def _admission(console: Console, pairs: int) -> None:
    began = time.monotonic()
    with console.status("") as status:
        verdicts = measure_admission(pairs, status.update)
    show_verdicts(console, "Admission, over ADMISSION=open", verdicts)
    write_verdicts(CHECKOUT / "build" / "bench-admission.json", verdicts, pairs=pairs)
    console.print(f"{pairs} pairs in {time.monotonic() - began:.0f} s; build/bench-admission.json")


def _presence(console: Console) -> None:
    began = time.monotonic()
    with console.status("") as status:
        verdicts = measure_presence(status.update)
    show_verdicts(console, "Presence, in units of DynamoDB", verdicts)
    write_verdicts(CHECKOUT / "build" / "bench-presence.json", verdicts)
    console.print(f"{time.monotonic() - began:.0f} s; build/bench-presence.json")


def _snapstart(console: Console, pairs: int) -> None:
    began = time.monotonic()
    with console.status("") as status:
        verdicts = measure_snapstart(pairs, status.update)
    show_verdicts(console, "SnapStart", verdicts)
    write_verdicts(CHECKOUT / "build" / "bench-snapstart.json", verdicts, pairs=pairs)
    console.print(f"{pairs} pairs in {time.monotonic() - began:.0f} s; build/bench-snapstart.json")


def _cost(console: Console, rounds: int) -> None:
    began = time.monotonic()
    with console.status("") as status:
        measure_cost(rounds, status.update)
    console.print(f"{rounds} processes of each in {time.monotonic() - began:.0f} s; infra/cost/measured.toml")


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "part",
        nargs="?",
        choices=["send", "admission", "presence", "snapstart", "cost"],
        help="measure only that; takes minutes",
    )
    parser.add_argument(
        "--seed", type=int, default=SystemRandom().randrange(10_000), help="of the faults in sending"
    )
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument(
        "--calls", type=int, default=200, help="measured $connects and $disconnects per process"
    )
    parser.add_argument("--warm-up", type=int, default=30, help="calls before those")
    parser.add_argument("--against", nargs="+", choices=_ALL.values(), default=list(_ALL.values()))
    parser.add_argument("--instructions", action="store_true", help="count instructions too; takes minutes")
    chosen = parser.parse_args()
    if chosen.instructions and not can_count():
        parser.error("--instructions needs valgrind")
    return Options(
        pairs=chosen.pairs,
        calls=Calls(chosen.warm_up, chosen.calls),
        backends=[name for name, short in _ALL.items() if short in chosen.against],
        instructions=chosen.instructions,
        part=chosen.part,
        seed=chosen.seed,
    )


def _backends(stack: ExitStack, names: Sequence[str]) -> list[Backend]:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    certificate, bundles = authority(folder)
    start = {
        STUB: lambda: stub(STUB),
        STUB_TLS: lambda: stub(STUB_TLS, certificate, bundles),
        LOCAL: lambda: dynamodb_local(LOCAL),
    }
    return [stack.enter_context(start[name]()) for name in names]


def _subjects_that_answer(console: Console, backend: Backend) -> list[Subject]:
    """Return all subjects; the boto3 transport is left out if the app does not have it under that name."""
    answering = []
    for subject in SUBJECTS:
        try:
            measure(subject, backend, Calls(1, 1))
        except SubjectFailed as failure:
            if subject.name != OURS_BOTO3:
                raise
            console.print(f"[yellow]LEFT OUT: {failure}[/]")
        else:
            answering.append(subject)
    return answering


def _measured(
    console: Console, options: Options, subjects: Sequence[Subject], backends: Sequence[Backend]
) -> dict[str, dict[str, list[Sample]]]:
    """Return the samples by backend and subject, in the order of the pairs."""
    samples: dict[str, dict[str, list[Sample]]] = {
        backend.name: {subject.name: [] for subject in subjects} for backend in backends
    }
    with console.status("") as status:
        for pair in range(options.pairs + 1):  # the first is discarded
            status.update(f"pair {pair} of {options.pairs}" if pair else "warming up")
            for backend in backends:
                for subject in subjects if pair % 2 else reversed(subjects):
                    sample = measure(subject, backend, options.calls)
                    if pair:
                        samples[backend.name][subject.name].append(sample)
    return samples


def _counted(
    console: Console, subjects: Sequence[Subject], backends: Sequence[Backend]
) -> Mapping[str, Mapping[str, float]]:
    counted = [subject for subject in subjects if subject.name in (SEED, OURS, FLOOR, LIMIT)]
    with console.status("counting instructions"):
        return count(counted, backends[0])


main()
