"""The results of a run: as tables in the terminal and as JSON."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.assemble import CHECKOUT
from tests.benchmarks.figures import IMAGE_TARGET_MB, SWEEP_MEMORY_TARGET, Comparison, Ratio
from tests.benchmarks.measure import Calls, Sample
from tests.benchmarks.subjects import OURS, SEED
from tests.sending.checks import Verdict

_COLOURS = {"met": "green", "missed": "red", "open": "yellow"}
_PLAIN_WIDTH = 132
_TEN = 10


def a_console() -> Console:
    console = Console(highlight=False, markup=True, emoji=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


def show(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print a table per backend: medians, in brackets the ratio to seed; for ours its interval and target."""
    for backend, of_backend in groupby(comparisons, key=lambda comparison: comparison.backend):
        rows = list(of_backend)
        others = [name for name in rows[0].ratios if name != OURS]
        table = Table(title=backend, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        table.add_column("")
        for heading in (SEED, OURS, "ours / seed (95 %)", "target", "", *others):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(
                f"{row.figure.label}, {row.figure.unit}".replace("[", r"\["),
                _number(row.medians[SEED]),
                _number(row.medians[OURS]),
                _interval(row.ratios[OURS]),
                "" if row.target is None else f"≤ {row.target:.2f}",
                _coloured(row.verdict),
                *(f"{_number(row.medians[name])} ({row.ratios[name].median:.3f})" for name in others),
            )
        console.print(table)
        console.print()


def show_sizes(console: Console, sizes: Mapping[str, int], what: str) -> None:
    """Print the size that is added to the base image, and its target."""
    megabytes = sizes[OURS] / 1e6
    verdict = _coloured("met" if megabytes <= IMAGE_TARGET_MB else "missed")
    console.print(
        f"[bold]{what}[/]: {megabytes:.1f} MB (target ≤ {IMAGE_TARGET_MB} MB: {verdict}); "
        f"seed {sizes[SEED] / 1e6:.1f} MB\n"
    )


def show_sweep_memory(console: Console, memory: Mapping[int, int]) -> None:
    """Print the peak memory of a sweep by number of items, its growth, and the target."""
    growth = memory[max(memory)] / memory[min(memory)]
    verdict = _coloured("met" if growth <= SWEEP_MEMORY_TARGET else "missed")
    peaks = ", ".join(f"{items:,} items {peak / 1e6:.1f} MB" for items, peak in memory.items())
    console.print(
        f"[bold]Peak memory of a sweep's process[/]: {peaks}; "
        f"{growth:.3f} times (target ≤ {SWEEP_MEMORY_TARGET:.2f}: {verdict})\n"
    )


def show_verdicts(console: Console, title: str, verdicts: Sequence[Verdict]) -> None:
    """Print figures beside their bars."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading in ("figure", "measured", "bar", "met?"):
        table.add_column(heading, no_wrap=heading != "measured")
    for figure, measured, bar, is_met in verdicts:
        verdict = "" if is_met is None else "met" if is_met else "missed"
        table.add_row(figure, measured, bar, _coloured(verdict))
    console.print(table)
    console.print()


def show_instructions(console: Console, counts: Mapping[str, Mapping[str, float]]) -> None:
    """Print the instruction counts by valgrind, each with its ratio to seed."""
    table = Table(
        title="Instructions, stub, HTTP (millions; in brackets over seed)",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("")
    for name in counts:
        table.add_column(name, justify="right", no_wrap=True)
    for figure, of_seed in counts[SEED].items():
        table.add_row(
            figure, *(f"{_number(of[figure] / 1e6)} ({of[figure] / of_seed:.3f})" for of in counts.values())
        )
    console.print(table)
    console.print()


def write_json(
    path: Path,
    *,
    target: str,
    calls: Calls,
    samples: Mapping[str, Mapping[str, Sequence[Sample]]],
    comparisons: Iterable[Comparison],
    sizes: Mapping[str, int],
    **more: Any,
) -> None:
    """Write all samples, results and the environment as JSON."""
    document = _circumstances(target) | {
        "callsPerProcess": asdict(calls),
        "bytesAddedToBase": dict(sizes),
        "figures": [comparison.as_json() for comparison in comparisons],
        "samples": samples,
    }
    _write(path, document | more)


def write_verdicts(path: Path, verdicts: Iterable[Verdict], **more: object) -> None:
    """Write figures beside their bars, and the environment, as JSON."""
    _write(path, _circumstances("bench") | more | {"figures": [it._asdict() for it in verdicts]})


def _circumstances(target: str) -> dict[str, Any]:
    """Return the date, the command, the commit and the environment of a run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f'make {target} ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else f"make {target}",
        "commit": _printed("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "loadAverage": os.getloadavg(),
            "versions": {name: version(name) for name in ("boto3", "botocore", "dependency-injector")},
        },
    }


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= _TEN * _TEN else f"{value:.1f}" if value >= _TEN else f"{value:.2f}"


def _interval(ratio: Ratio) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f}-{ratio.high:.3f})"


def _coloured(verdict: str) -> str:
    return f"[{_COLOURS[verdict]}]{verdict}[/]" if verdict else ""


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _printed(*command: str) -> str | None:
    try:
        return subprocess.run(
            command, cwd=CHECKOUT, check=True, capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
