"""Draws the layout of the CloudWatch dashboard from the template: its graphs, and what each of them shows."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from infra.pictures.recording import ROOT
from infra.pictures.svg import SANS, document, element, text
from infra.pictures.themes import Theme

_COLUMN, _ROW = 40, 25  # of CloudWatch's grid of 24 columns, as it is drawn here
_MARGIN, _GAP = 10, 8
_HEADER = 62
_NARROW = set(" ,.:()'ijlt")
_SWATCHES = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")

_HEADING = "The alarm dashboard's layout"
_NOTE = "Drawn from infra/template.yaml. It has no data: CloudWatch draws the curves."


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    colour: str


@dataclass(frozen=True, slots=True)
class _Graph:
    place: tuple[float, float, float, float]
    title: str
    unit: str
    lines: Sequence[_Line]
    has_right_axis: bool


def dashboard(theme: Theme) -> str:
    """Return the layout in the colours of *theme*."""
    graphs = [_graph(widget) for widget in _widgets()]
    width = 2 * _MARGIN + 24 * _COLUMN
    height = max(y + high for graph in graphs for _, y, _, high in [graph.place]) + _MARGIN
    style = (
        f"text{{font-family:{SANS};font-size:12.5px;fill:{theme.muted}}}.page{{fill:{theme.page}}}"
        f".title{{font-size:14px;font-weight:600;fill:{theme.text}}}.middle{{text-anchor:middle}}"
        f".heading{{font-size:17px;font-weight:600;fill:{theme.text}}}"
        f".graph{{fill:{theme.box};stroke:{theme.line}}}"
        f".axis{{fill:none;stroke:{theme.muted};stroke-width:1.2}}"
        f".grid{{stroke:{theme.line};stroke-dasharray:2 4}}"
    )
    described = "; ".join(f"{it.title}: {', '.join(line.label for line in it.lines)}" for it in graphs)
    return document(
        (width, height),
        _HEADING,
        f"{_NOTE} Its graphs are: {described}.",
        style,
        element("rect", class_="page", width="100%", height="100%"),
        text(_HEADING, _MARGIN + 4, 26, class_="heading"),
        text(f"{_NOTE} ▸ marks what is on the right axis.", _MARGIN + 4, 48),
        *map(_drawn, graphs),
    )


def _widgets() -> Sequence[Mapping[str, Any]]:
    template = yaml_parse((ROOT / "infra" / "template.yaml").read_text())
    body: str = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets: list[Mapping[str, Any]] = json.loads(body)["widgets"]
    return widgets


def _graph(widget: Mapping[str, Any]) -> _Graph:
    shown = widget["properties"]
    lines = [metric[-1] for metric in shown["metrics"]]
    stats = dict.fromkeys(line.get("stat", shown["stat"]) for line in lines)
    return _Graph(
        (
            _MARGIN + widget["x"] * _COLUMN + _GAP / 2,
            _HEADER + widget["y"] * _ROW + _GAP / 2,
            widget["width"] * _COLUMN - _GAP,
            widget["height"] * _ROW - _GAP,
        ),
        shown["title"],
        f"{' and '.join(stats)}, every {_duration(shown['period'])}",
        [_Line(_label(line), colour) for line, colour in zip(lines, _SWATCHES, strict=False)],
        any(map(_is_on_the_right, lines)),
    )


def _label(line: Mapping[str, str]) -> str:
    label = line["label"] or _searched(line["expression"])
    return f"▸ {label}" if _is_on_the_right(line) else label


def _is_on_the_right(line: Mapping[str, str]) -> bool:
    return line.get("yAxis") == "right"


def _searched(expression: str) -> str:
    """Return a label for the lines that *expression* finds, one for each value of a dimension."""
    [dimension] = re.findall(r",(\w+)} MetricName", expression)
    return f"one line for each {dimension.lower()}"


def _duration(seconds: int) -> str:
    minutes = seconds // 60
    return "minute" if minutes == 1 else f"{minutes} minutes"


def _drawn(graph: _Graph) -> str:
    x, y, width, height = graph.place
    rows = _legend(graph, width - 28)
    left, right, top, bottom = x + 14, x + width - 14, y + 34, y + height - 16 - 18 * len(rows)
    middle = (top + bottom) / 2
    axes = f"M{left:g} {top:g}V{bottom:g}H{right:g}" + (f"V{top:g}" if graph.has_right_axis else "")
    return "".join(
        [
            element("rect", class_="graph", x=x, y=y, width=width, height=height, rx=6),
            text(graph.title, x + 12, y + 22, class_="title"),
            element("path", class_="grid", d=f"M{left:g} {top:g}H{right:g}"),
            element("path", class_="axis", d=axes),
            text(graph.unit, x + width / 2, middle + 4, class_="middle"),
            *(
                _entry(line, left + at, bottom + 20 + 18 * row)
                for row, entries in enumerate(rows)
                for line, at in entries
            ),
        ]
    )


def _legend(graph: _Graph, width: float) -> Sequence[Sequence[tuple[_Line, float]]]:
    """Return the rows of the legend: lines, and where they begin."""
    rows: list[list[tuple[_Line, float]]] = [[]]
    at = 0.0
    for line in graph.lines:
        wide = 34 + sum(4 if letter in _NARROW else 7.2 for letter in line.label)  # about that
        if at + wide > width + 18:
            rows.append([])
            at = 0
        rows[-1].append((line, at))
        at += wide
    return rows


def _entry(line: _Line, x: float, y: float) -> str:
    swatch = element("rect", x=x, y=y - 9, width=10, height=10, rx=2, fill=line.colour)
    return swatch + text(line.label, x + 15, y)
