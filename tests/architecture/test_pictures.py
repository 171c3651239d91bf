"""The pictures are what their sources make, and what the sources say is what the template says."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from infra.pictures.__main__ import FOLDER, pictures
from infra.pictures.architecture import BUS, EDGES, NODES, NOT_DRAWN, Kind, Node
from infra.pictures.recording import CAST, Cast, record
from infra.pictures.svg import Point
from infra.pictures.terminal import terminal
from infra.pictures.themes import LIGHT, THEMES, Theme
from tests.template import source

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = dict(pictures())
each_picture = pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)

KINDS = {
    "AWS::Serverless::Function": {Kind.FUNCTION},
    "AWS::Serverless::WebSocketApi": {Kind.API},
    "AWS::DynamoDB::Table": {Kind.TABLE},
    "AWS::SQS::Queue": {Kind.QUEUE, Kind.GIVEN_UP},
}
DRAWN = {node.id: node for node in NODES}


@each_picture
def test_a_committed_picture_is_what_its_source_makes(path: Path) -> None:
    assert path.read_text() == PICTURES[path], "make pictures"


def test_no_other_picture_is_there() -> None:
    assert set(FOLDER.iterdir()) == set(PICTURES)


@each_picture
def test_a_picture_has_a_name_and_a_description_and_loads_nothing(path: Path) -> None:
    text = path.read_text()
    root = ET.fromstring(text)  # noqa: S314 - our own file

    named = [
        root.find(f"{SVG}{tag}[@id='{name}']") for tag, name in (("title", "title"), ("desc", "description"))
    ]
    assert all(it is not None and it.text for it in named)
    assert root.attrib["role"] == "img"
    assert not re.search(r"<script|<image|<foreignObject|@import|@font-face|href|url\((?!#)", text)


def resources(of: set[str]) -> dict[str, Any]:
    return {name: it for name, it in source()["Resources"].items() if it["Type"] in of}


def test_the_architecture_has_what_the_template_creates_and_nothing_else() -> None:
    created = resources(set(KINDS))
    rule = source()["Resources"]["PresenceBusRule"]["Properties"]

    of_the_stack = {name: node for name, node in DRAWN.items() if node.kind is not Kind.OUTSIDE}
    assert set(of_the_stack) == set(created)
    assert all(node.kind in KINDS[created[name]["Type"]] for name, node in of_the_stack.items())
    assert rule["EventBusName"] == {"Ref": BUS}
    assert len(DRAWN) == len(NODES)


def test_what_has_a_condition_is_drawn_as_optional() -> None:
    conditional = {name for name, it in resources(set(KINDS)).items() if "Condition" in it}

    assert {name for name, node in DRAWN.items() if node.optional} == conditional | {BUS}


def test_arrows_say_what_the_roles_the_queues_and_the_routes_do() -> None:
    used: set[frozenset[str]] = set()
    for name, resource in resources(set(KINDS)).items():
        if resource["Type"] == "AWS::Serverless::Function":
            role = resource["Properties"]["Role"]["Fn::GetAtt"][0]
            resource = source()["Resources"][role]  # noqa: PLW2901 - what the function may use
        if resource["Type"] != "AWS::DynamoDB::Table":
            used |= {frozenset({name, other}) for other in referenced(resource) & set(DRAWN)}

    outside = {name for name, node in DRAWN.items() if node.kind is Kind.OUTSIDE} - {BUS}
    drawn = {
        frozenset({edge.source, edge.target}) for edge in EDGES if not {edge.source, edge.target} & outside
    }
    left_out = {frozenset(pair) for pair in NOT_DRAWN}
    assert drawn | left_out == used
    assert not drawn & left_out


def referenced(node: Any) -> set[str]:
    """Return the logical ids and parameters that *node* refers to."""
    match node:
        case {"Ref": str(name)} | {"Fn::GetAtt": [name, _]}:
            return {name}
        case {"Fn::Sub": str(text)}:
            return set(re.findall(r"\$\{(\w+)", text))
        case dict():
            return set().union(*map(referenced, node.values()))
        case list():
            return set().union(*map(referenced, node))
        case _:
            return set()


def test_each_event_source_has_an_arrow_to_its_function() -> None:
    mappings = resources({"AWS::Lambda::EventSourceMapping"}).values()
    ends = [
        (it["EventSourceArn"]["Fn::GetAtt"][0], it["FunctionName"]["Fn::GetAtt"][0])
        for it in (mapping["Properties"] for mapping in mappings)
    ]

    assert ends
    assert set(ends) <= {(edge.source, edge.target) for edge in EDGES}


def test_each_arrow_goes_from_the_border_of_its_source_to_that_of_its_target() -> None:
    astray = [
        edge
        for edge in EDGES
        if not is_on_border(edge.points[0], DRAWN[edge.source])
        or not is_on_border(edge.points[-1], DRAWN[edge.target])
    ]

    assert astray == []


def is_on_border(point: Point, node: Node) -> bool:
    x, y, width, height = node.place
    right, down = point[0] - x, point[1] - y
    is_within = 0 <= right <= width and 0 <= down <= height
    return is_within and (right in {0, width} or down in {0, height})


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_texts_have_the_contrast_of_wcag_aa(theme: Theme) -> None:
    texts = [theme.text, theme.muted, *theme.flows.values()]
    pairs = [(text, behind) for text in texts for behind in (theme.page, theme.frame, theme.box)]
    pairs += [(theme.on_colour, colour) for colour in theme.flows.values()]

    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, by WCAG 2.2."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_dashboard_has_every_graph_and_every_line_of_the_template() -> None:
    body = json.loads(source()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    graphs = [widget["properties"] for widget in body["widgets"]]
    root = ET.fromstring((FOLDER / "dashboard-light.svg").read_text())  # noqa: S314 - our own file
    texts = [text.text for text in root.iter(f"{SVG}text")]

    assert graphs
    assert {graph["title"] for graph in graphs} <= set(texts)
    shown = [(line[-1]["label"], line[-1].get("yAxis")) for graph in graphs for line in graph["metrics"]]
    assert {f"▸ {label}" if axis else label for label, axis in shown if label} <= set(texts)


def test_the_recording_is_a_whole_demo_and_has_nothing_of_the_machine() -> None:
    text = "".join(data for _, data in Cast.read(CAST).outputs)

    assert "The list was right at every step" in text
    assert re.findall(r"\d+\.\d+\.\d+\.\d+", text.replace("127.0.0.1", "")) == []
    assert re.findall(r"(?<![\w.])/\w+", text) == []
    assert re.findall(r"\w+@\w+", text) == []


def cast(*outputs: tuple[float, str]) -> Cast:
    return Cast(20, 3, outputs)


def shown(picture: str) -> list[str]:
    """Return the texts below the title of the window."""
    root = ET.fromstring(picture)  # noqa: S314 - our own
    _, *lines = (text.text or "" for text in root.iter(f"{SVG}text"))
    return [line.replace("\u00a0", " ") for line in lines]


def test_a_recording_shows_each_line_and_wraps_long_ones() -> None:
    picture = terminal(cast((0.5, "a line\r\n"), (0.6, f"{'x' * 20}yz\r\n")), LIGHT)

    assert shown(picture) == ["$ make demo", "a line", "x" * 20, "yz"]


def test_a_long_wait_is_shortened() -> None:
    lengths = [
        float(re.findall(r"roll ([\d.]+)s", terminal(cast((0, "one\r\n"), (wait, "two\r\n")), LIGHT))[0])
        for wait in (2, 60)
    ]

    assert lengths[0] == lengths[1] < 15


def jumps(picture: str, animation: str) -> list[tuple[float, int]]:
    """Return how many lines an animation has moved, and since which second."""
    length = float(re.findall(rf"animation:{animation} ([\d.]+)s", picture)[0])
    frames = re.findall(rf"@keyframes {animation}{{(.*?}})}}", picture)[0]
    moved = re.findall(r"([\d.]+)%{transform:translateY\(-?([\d.]+)px\)}", frames)
    return [(length * float(share) / 100, round(float(pixels) / 19)) for share, pixels in moved]


def test_each_step_of_the_demo_can_be_read_before_the_next_begins() -> None:
    picture = PICTURES[FOLDER / "demo-light.svg"]
    texts = re.findall(r'<text x="[\d.]+" y="(\d+)"[^>]*?(?: class="(\w+)")?>', picture)
    rows = [((int(y) - 58) // 19, kind) for y, kind in texts if kind != "title"]
    covered, rolled = (jumps(picture, animation) for animation in ("cover", "roll"))
    counts = [*covered, *((at, Cast.read(CAST).rows + lines) for at, lines in rolled)]
    shown_at = {
        row: next(at for at, lines in counts if lines > row + 1)  # the last one is the cursor's
        for row, _ in rows
    }

    stays = [
        shown_at[row] - shown_at[last] for (last, _), (row, kind) in pairwise(rows[1:]) if kind == "step"
    ]
    assert len(stays) > 20
    assert min(stays) > 1.9


def test_the_film_of_the_demo_ends_with_its_result() -> None:
    lines = shown(PICTURES[FOLDER / "demo-light.svg"])

    assert any("The list was right at every step" in line for line in lines[-2:])


def test_where_motion_is_not_wanted_the_last_screen_is_shown() -> None:
    picture = terminal(cast(*((at / 10, f"line {at}\r\n") for at in range(9))), LIGHT)
    still, moving = picture.split("@media (prefers-reduced-motion:no-preference)", 1)

    # 11 lines with the prompt's and the cursor's; the last 3 are on the screen
    assert f".roll{{transform:translateY({-19 * 8}px)}}" in still
    assert "animation" not in still
    assert "animation:roll" in moving


@pytest.mark.parametrize("output", ["\x1b[2J", "\x1b[1A", "over\rwritten\r\n", "\x07"])
def test_output_that_is_more_than_lines_and_styles_is_refused(output: str) -> None:
    with pytest.raises(ValueError, match="moves the cursor"):
        terminal(cast((0, output)), LIGHT)


def test_a_recorded_command_had_a_terminal_and_is_read_as_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.get_terminal_size().columns, 'Zeichen: ü')"]

    recorded = record(command)
    recorded.write(tmp_path / "a.cast")

    assert "".join(data for _, data in recorded.outputs) == f"{recorded.columns} Zeichen: ü\r\n"
    assert (
        "".join(data for _, data in Cast.read(tmp_path / "a.cast").outputs)
        == f"{recorded.columns} Zeichen: ü\r\n"
    )


def test_a_command_that_fails_is_not_recorded() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        record([sys.executable, "-c", "raise SystemExit(3)"])
