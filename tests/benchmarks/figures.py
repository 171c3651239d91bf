"""The figures, their targets, and the statistics: ratios within pairs, with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import median
from typing import Any

from scipy.stats import bootstrap  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group bench

from tests.benchmarks.measure import Sample
from tests.benchmarks.subjects import OURS, SEED

STUB, STUB_TLS, LOCAL = "stub, HTTP", "stub, TLS", "DynamoDB Local, HTTP"
IMAGE = "image, DynamoDB Local"
SWEEP = "sweep, DynamoDB Local (seed: one probe after the other)"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of each sample, by its ``name`` there; ``targets`` are ours over seed, by backend."""

    name: str
    label: str
    unit: str
    targets: Mapping[str, float]

    def target(self, backend: str) -> float | None:
        return self.targets.get(backend)


_EVERYWHERE = (STUB, LOCAL, STUB_TLS)

FIGURES = (
    Figure("bare_cold_ms", "cold start", "ms", {STUB: 0.22, LOCAL: 0.22, STUB_TLS: 0.26}),
    Figure("cold_ms", "cold start, with Lambda's runtime", "ms", {IMAGE: 0.29}),
    Figure("init_ms", "  after the runtime's own start", "ms", {}),
    Figure("cold_cpu_ms", "  CPU of the whole", "ms", {}),
    Figure("connect_wall_us", "$connect, wall", "µs", {LOCAL: 0.35}),
    Figure("connect_cpu_us", "$connect, CPU", "µs", dict.fromkeys(_EVERYWHERE, 0.14)),
    Figure("disconnect_wall_us", "$disconnect, wall", "µs", {LOCAL: 0.35}),
    Figure("disconnect_cpu_us", "$disconnect, CPU", "µs", dict.fromkeys(_EVERYWHERE, 0.14)),
    Figure("memory_mb", "peak memory", "MB", dict.fromkeys(_EVERYWHERE, 0.45)),
    Figure("disconnect_cold_ms", "cold start, $disconnect", "ms", {IMAGE: 0.29}),
    Figure("sweep_ms", "sweep of 1,000 connections, 10 ms a probe", "ms", {SWEEP: 0.10}),
)

IMAGE_TARGET_MB = 49
"""The limit of the image's size beyond its base image.

libcurl has 18 MB, which no handshake opens, and the check of signatures 17, which
none opens without tokens.
"""
SWEEP_MEMORY_TARGET = 1.10
"""The limit of the growth of a sweep's peak memory with ten times the items."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the ratios within pairs; the median of all such lies in ``low``..``high`` with 95 %."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One figure against one backend: every subject's median, and its ratio to seed."""

    figure: Figure
    backend: str
    medians: Mapping[str, float]
    ratios: Mapping[str, Ratio]

    @cached_property
    def target(self) -> float | None:
        return self.figure.target(self.backend)

    @property
    def verdict(self) -> str:
        """Whether the target is met: the interval is below it; ``open`` if it is within the interval."""
        if self.target is None or OURS not in self.ratios:
            return ""
        ours = self.ratios[OURS]
        if ours.high <= self.target:
            return "met"
        return "missed" if ours.low > self.target else "open"

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure.name,
            "unit": self.figure.unit,
            "backend": self.backend,
            "medians": dict(self.medians),
            "ratiosToSeed": {name: asdict(ratio) for name, ratio in self.ratios.items()},
            "target": self.target,
            "verdict": self.verdict or None,
        }


def compare(backend: str, samples: Mapping[str, Sequence[Sample]]) -> list[Comparison]:
    """Return the comparisons of *samples*: by subject, in pairs (the nth of each were taken side by side)."""
    return [
        Comparison(
            figure,
            backend,
            {name: median(sample[figure.name] for sample in taken) for name, taken in samples.items()},
            {
                name: ratio(_series(taken, figure), _series(samples[SEED], figure))
                for name, taken in samples.items()
                if name != SEED
            },
        )
        for figure in FIGURES
        if all(figure.name in sample for taken in samples.values() for sample in taken)
    ]


def _series(taken: Sequence[Sample], figure: Figure) -> list[float]:
    return [sample[figure.name] for sample in taken]


def ratio(subject: Sequence[float], seed: Sequence[float]) -> Ratio:
    """Return the ratio of two series, whose nth values were taken side by side."""
    ratios = [one / other for one, other in zip(subject, seed, strict=True)]
    middle = median(ratios)
    if len(ratios) == 1:
        return Ratio(middle, middle, middle)
    interval = bootstrap(
        (ratios,), median, confidence_level=0.95, method="percentile", rng=0, vectorized=False
    ).confidence_interval
    return Ratio(middle, float(interval.low), float(interval.high))
