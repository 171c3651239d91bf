"""The measured figures, which ``make bench ARGS=cost`` writes."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PATH = Path(__file__).parent / "measured.toml"

type Figures = Mapping[str, Mapping[str, float]]


class Measured(NamedTuple):
    """Figures of functions (ms, MB and bytes, by function) and of DynamoDB (units, by path)."""

    origin: Mapping[str, str | int]
    functions: Figures
    units: Figures


def measured() -> Measured:
    """Return the figures of the repository."""
    return Measured(**tomllib.loads(PATH.read_text()))


def as_toml(figures: Measured) -> str:
    """Return *figures* as the file has them."""
    lines = ["# Written by `make bench ARGS=cost`; read by `make cost`.", "", "[origin]"]
    lines += [f"{name} = {_value(value)}" for name, value in figures.origin.items()]
    for section in ("functions", "units"):
        for name, values in getattr(figures, section).items():
            lines += ["", f"[{section}.{name}]", *(f"{key} = {value:g}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _value(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
