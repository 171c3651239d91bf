"""Draws the architecture: boxes with icons, coloured arrows, a legend."""

from infra.pictures.architecture import (
    BADGES,
    CLIENTS_DO,
    DESCRIPTION,
    EDGES,
    FRAME,
    KEY,
    LEGEND,
    NODES,
    NOTES,
    OPTIONAL,
    SIZE,
    TITLE,
    Edge,
    Kind,
    Node,
)
from infra.pictures.svg import SANS, document, element, number, rounded, text
from infra.pictures.themes import Flow, Theme

_CYLINDER = (
    "M2 4C2 2.3 4.7 1.5 8 1.5S14 2.3 14 4 11.3 6.5 8 6.5 2 5.7 2 4V12.5C2 14.2 4.7 15 8 15S14 14.2 14 12.5V4"
    "M2 8.3C2 10 4.7 10.8 8 10.8S14 10 14 8.3"
)
_QUEUE = "M1.5 3.5H14.5V12.5H1.5ZM5.8 3.5V12.5M10.2 3.5V12.5"
_ICONS = {
    Kind.FUNCTION: "M2.5 2H5.5L13 15H15.5M7.4 5.6L2 15",
    Kind.TABLE: _CYLINDER,
    Kind.QUEUE: _QUEUE,
    Kind.GIVEN_UP: _QUEUE,
}
"""Outlines in a square of 16."""

_OPTIONAL = {node.id for node in NODES if node.optional}
_LINE = 16  # from one line's baseline to the next


def architecture(theme: Theme) -> str:
    """Return the picture in the colours of *theme*."""
    x, y, width, height = FRAME
    return document(
        SIZE,
        TITLE,
        DESCRIPTION,
        _style(theme),
        element("rect", class_="page", width="100%", height="100%"),
        element("rect", class_="frame", x=x, y=y, width=width, height=height, rx=12),
        *_arrow_heads(theme),
        *map(_arrow, EDGES),
        *(text(edge.label, *edge.at, class_=f"middle t-{edge.flow}") for edge in EDGES if edge.label),
        *map(_box, NODES),
        *(text(note, *place, class_="muted") for note, place in NOTES),
        *(_badge(flow, *place) for flow, place in BADGES.items()),
        *(
            text(what, 61, BADGES[flow][1] + 5, class_=f"middle t-{flow}")
            for flow, what in CLIENTS_DO.items()
        ),
        *_legend(),
    )


def _style(theme: Theme) -> str:
    flows = "".join(
        f".{flow}{{stroke:{colour}}}.t-{flow}{{fill:{colour}}}" for flow, colour in theme.flows.items()
    )
    return (
        f"text{{font-family:{SANS};font-size:13px;fill:{theme.text}}}"
        ".name{font-size:15px;font-weight:600}.small{font-size:13.5px;font-weight:600}.middle{text-anchor:middle}"
        f".muted{{fill:{theme.muted}}}.number{{fill:{theme.on_colour};font-weight:700}}"
        f".page{{fill:{theme.page}}}.frame{{fill:{theme.frame};stroke:{theme.line}}}"
        f".box{{fill:{theme.box};stroke:{theme.line};stroke-width:1.2}}.outside{{fill:{theme.page}}}"
        f".main{{stroke:{theme.text};stroke-width:2}}"
        f".optional{{stroke-dasharray:5 4}}.box.optional{{stroke:{theme.muted}}}"
        f".icon{{fill:none;stroke:{theme.muted};stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}}"
        f".arrow{{fill:none;stroke-width:2}}.other{{stroke:{theme.muted};stroke-width:1.4}}"
        f".gap{{fill:none;stroke:{theme.frame};stroke-width:10}}"
        f"{flows}"
    )


def _arrow_heads(theme: Theme) -> list[str]:
    colours = [*theme.flows.items(), ("other", theme.muted)]
    return [
        element(
            "marker",
            element("path", d="M0 0L9 4.5L0 9Z", fill=colour),
            id=f"to-{name}",
            viewBox="0 0 9 9",
            refX=8,
            refY=4.5,
            markerWidth=9,
            markerHeight=9,
            markerUnits="userSpaceOnUse",
            orient="auto-start-reverse",
        )
        for name, colour in colours
    ]


def _arrow(edge: Edge) -> str:
    name = edge.flow or "other"
    head = f"url(#to-{name})"
    line = element(
        "path",
        class_=f"arrow {name} optional" if _OPTIONAL & {edge.source, edge.target} else f"arrow {name}",
        d=rounded(edge.points),
        marker_end=head,
        **({"marker_start": head} if edge.both_ways else {}),
    )
    # One that turns may cross another, which gets a gap there.
    gap = element("path", class_="gap", d=rounded(edge.points)) if edge.points[2:] else ""
    return gap + line


def _box(node: Node) -> str:
    x, y, width, height = node.place
    marks = {
        "optional": node.optional,
        "outside": node.kind is Kind.OUTSIDE,
        "main": node.id == "ConnectionsTable",
    }
    classes = " ".join(["box", *(mark for mark, is_set in marks.items() if is_set)])
    return element("rect", class_=classes, x=x, y=y, width=width, height=height, rx=8) + _content(node)


def _content(node: Node) -> str:
    x, y, width, height = node.place
    if node.kind in {Kind.OUTSIDE, Kind.API}:
        return _centred(node, y + 22)
    if node.id == "ConnectionsTable":
        return _icon(node.kind, x + width / 2 - 16, y + 66, scale=2) + _centred(node, y + 120)
    if node.lines:
        top = y + (height - 62) / 2
        name = _icon(node.kind, x + 10, top + 8) + text(node.name, x + 31, top + 21, class_="name")
        return name + _lines(node, x + 12, top + 39.5, "muted")
    style = "muted" if node.kind is Kind.GIVEN_UP else "small"
    middle = y + height / 2
    return _icon(node.kind, x + 8, middle - 8) + text(node.name, x + 28, middle + 5, class_=style)


def _centred(node: Node, y: float) -> str:
    x = node.place[0] + node.place[2] / 2
    return text(node.name, x, y, class_="name middle") + _lines(node, x, y + 18, "muted middle")


def _lines(node: Node, x: float, y: float, style: str) -> str:
    return "".join(
        text(line, x, y + _LINE * row, class_=style) for row, line in enumerate(node.lines) if line
    )


def _icon(kind: Kind, x: float, y: float, scale: float = 1) -> str:
    place = f"translate({number(x)} {number(y)}) scale({number(scale)})"
    return element("path", class_="icon", d=_ICONS[kind], transform=place)


def _badge(flow: Flow, x: float, y: float) -> str:
    place = str(list(Flow).index(flow) + 1)
    circle = element("circle", class_=f"t-{flow}", cx=x, cy=y, r=9)
    return circle + text(place, x, y + 4.7, class_="number middle")


def _legend() -> list[str]:
    parts = []
    for place, (flow, (name, meaning)) in enumerate(LEGEND.items()):
        x, y = 24.0 + 500 * (place // 3), 672 + 26 * (place % 3)
        parts += [
            _badge(flow, x, y),
            text(name, x + 18, y + 5, class_="name"),
            text(meaning, x + 122, y + 5, class_="muted"),
        ]
    dashes = element("path", class_="icon optional", d="M510 754H528")
    parts += [dashes, text(OPTIONAL, 542, 759, class_="muted")]
    for place, (kind, meaning) in enumerate(KEY.items()):
        x = 16 + 165 * place
        parts += [_icon(kind, x, 746), text(meaning, x + 26, 759, class_="muted")]
    return parts
