"""The chart for the README: each subject's ratio to seed, on a transparent background."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]  # group bench

from tests.benchmarks.figures import LOCAL, STUB, STUB_TLS, Comparison
from tests.benchmarks.subjects import LIMIT, OURS, OURS_BOTO3

_GREY = "#848d97"  # readable on GitHub's white and dark grey
_COLOURS = {OURS: "#2da44e", OURS_BOTO3: "#4184e4", LIMIT: "#b08800"}
_SHOWN = (
    ("bare_cold_ms", STUB, "cold start, HTTP"),
    ("bare_cold_ms", STUB_TLS, "cold start, TLS"),
    ("connect_cpu_us", STUB, "CPU per $connect"),
    ("disconnect_cpu_us", STUB, "CPU per $disconnect"),
    ("connect_wall_us", LOCAL, "time per $connect, DynamoDB Local"),
    ("disconnect_wall_us", LOCAL, "time per $disconnect, DynamoDB Local"),
    ("memory_mb", STUB, "peak memory"),
)


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the chart to *path*, without the figures that were not measured."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is set  # type: ignore[import-not-found,unused-ignore]  # group bench

    found = {(comparison.figure.name, comparison.backend): comparison for comparison in comparisons}
    rows = [(label, found[name, backend]) for name, backend, label in _SHOWN if (name, backend) in found]
    if not rows:
        return
    series = [name for name in _COLOURS if any(name in row.ratios for _, row in rows)]
    style: Any = {
        "text.color": _GREY,
        "xtick.color": _GREY,
        "ytick.color": _GREY,
        "font.size": 11,
        "text.parse_math": False,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(9, 0.6 + 0.72 * len(rows)), layout="constrained")
        height = 0.8 / len(series)
        for place, name in enumerate(series):
            at = [number + (place - (len(series) - 1) / 2) * height for number in range(len(rows))]
            ratios = [row.ratios[name] for _, row in rows]
            bars = axes.barh(
                at,
                [ratio.median for ratio in ratios],
                height * 0.9,
                xerr=[[ratio.median - ratio.low for ratio in ratios], [r.high - r.median for r in ratios]],
                error_kw={"ecolor": _GREY, "elinewidth": 1},
                color=_COLOURS[name],
                label=name,
            )
            axes.bar_label(
                bars, [f"{ratio.median:.2f}" for ratio in ratios], padding=5, fontsize=9, color=_GREY
            )
        for number, (_, row) in enumerate(rows):
            if row.target is not None:
                label = "target for ours" if number == 0 else None
                axes.plot(
                    [row.target] * 2, [number - 0.42, number + 0.42], color="#cf222e", lw=1.5, label=label
                )
        axes.axvline(1, color=_GREY, lw=1.5, ls="--", label="seed = 1")
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.invert_yaxis()
        longest = max(row.ratios[name].high for _, row in rows for name in series)
        axes.set_xlim(0, max(1.1, longest * 1.1))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(axis="x", color=_GREY, alpha=0.25)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, dpi=160, transparent=True)
        plt.close(figure)
