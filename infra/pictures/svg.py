"""SVG as text: elements, and documents that a screen reader can name. The same input gives the same bytes."""

from collections.abc import Iterable
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

SANS = "-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, 'SF Mono', Menlo, Consolas, 'Liberation Mono', monospace"

type Value = str | float
type Point = tuple[float, float]


def element(tag: str, *children: str, **attributes: Value) -> str:
    """Return an element; ``class_`` is the attribute class, and an underscore inside a name a hyphen."""
    written = "".join(
        f" {name.rstrip('_').replace('_', '-')}={quoteattr(number(value))}"
        for name, value in attributes.items()
    )
    inner = "".join(children)
    return f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>"


def text(content: str, x: float, y: float, **attributes: Value) -> str:
    """Return *content* at its baseline."""
    return element("text", escape(content), x=x, y=y, **attributes)


def number(value: Value) -> str:
    """Return *value* with at most three decimals and no needless zero."""
    return value if isinstance(value, str) else f"{value:.3f}".rstrip("0").rstrip(".")


def rounded(points: Iterable[Point], radius: float = 7) -> str:
    """Return a path's data: straight lines through *points*, with round corners."""
    first, *others = points
    data = [f"M{number(first[0])} {number(first[1])}"]
    before = first
    for corner, after in pairwise(others):
        start, end = _towards(corner, before, radius), _towards(corner, after, radius)
        data.append(f"L{_pair(start)}Q{_pair(corner)} {_pair(end)}")
        before = corner
    data.append(f"L{_pair(others[-1])}")
    return "".join(data)


def document(size: tuple[float, float], title: str, description: str, style: str, *content: str) -> str:
    """Return a whole file with an accessible name and description."""
    width, height = map(number, size)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-labelledby="title description">'
    )
    named = (
        element("title", escape(title), id="title"),
        element("desc", escape(description), id="description"),
        element("style", escape(style)),
    )
    return "\n".join((opening, *named, *content, "</svg>", ""))


def _towards(corner: Point, other: Point, radius: float) -> Point:
    """Return the point on the way from *corner* to *other*, at most *radius* away."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    distance = (dx * dx + dy * dy) ** 0.5
    share = min(radius, distance / 2) / distance
    return corner[0] + dx * share, corner[1] + dy * share


def _pair(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"
