"""Draws a recorded terminal as an SVG that plays, by CSS: in an img, as on GitHub, scripts do not run."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.text import Text

from infra.pictures.recording import Cast
from infra.pictures.svg import MONO, document, element, number, text
from infra.pictures.themes import Flow, Theme

_LONGEST_WAIT = 1.5  # s; what took longer is shortened to it
_READING = 2.0  # s; a step stays for so long, at least, before the next one begins
_LAST_SCREEN = 8.0  # s, before it begins again
_LEFT_OUT = "Unlike on AWS:"  # the demo's last step is a list to read elsewhere: the film ends before it
_PROMPT = "$ make demo"
_NO_BREAK = "\u00a0"  # a space that SVG keeps, of several in a row

_ADVANCE, _LEADING = 8.4, 19  # of a character and of a line
_LEFT, _TOP = 20, 58
_BAR = 36  # the height of the title bar

_STYLES = re.compile(r"\x1b\[[\d;]*m")
_STEP = re.compile(r" *\d+\.\d s  ")
_CONSOLE = Console()


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    style: str


@dataclass(frozen=True, slots=True)
class _Film:
    """All lines that were printed, and how many of them were there at which second."""

    lines: Sequence[_Line]
    steps: Sequence[tuple[float, int]]
    length: float


def terminal(cast: Cast, theme: Theme) -> str:
    """Return the recording of the demo as a picture; where motion is not wanted, it is the last screen."""
    film = _film(cast)
    rows = cast.rows
    width, height = 2 * _LEFT + cast.columns * _ADVANCE, _TOP + rows * _LEADING + 2
    last = film.steps[-1][1]
    scrolled = [(at, -_LEADING * max(0, count - rows)) for at, count in film.steps]
    covered = [(at, _LEADING * min(count, rows)) for at, count in film.steps]
    style = (
        f"text{{font-family:{MONO};font-size:14px;fill:{theme.text}}}"
        f".bold,.step{{font-weight:600}}.step{{fill:{theme.flows[Flow.SEND]}}}"
        f".title{{fill:{theme.muted};text-anchor:middle}}"
        f".window{{fill:{theme.frame};stroke:{theme.line}}}.cover{{fill:{theme.frame};transform:translateY({height}px)}}"
        f".roll{{transform:translateY({-_LEADING * max(0, last - rows)}px)}}"
        "@media (prefers-reduced-motion:no-preference){"
        f".roll{{animation:roll {number(film.length)}s step-end infinite}}"
        f".cover{{animation:cover {number(film.length)}s step-end infinite}}}}"
        f"@keyframes roll{{{_keyframes(scrolled, film.length)}}}"
        f"@keyframes cover{{{_keyframes(covered, film.length)}}}"
    )
    y, high = _TOP - _LEADING + 5, rows * _LEADING
    return document(
        (width, height),
        "A recording of make demo",
        "A terminal shows a real run of make demo. Its long waits are shortened, there is time to read each "
        "step, and the list of differences to AWS at its end is left out. WebSocket clients connect to a "
        "local stack, leave, are killed and come back. After each step the table lists who is connected, and "
        "each alert reaches exactly those whom it concerns.",
        style,
        element("rect", class_="window", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=10),
        *(element("circle", cx=22 + 20 * place, cy=_BAR / 2, r=6, fill=theme.line) for place in range(3)),
        text("make demo: a real run, slowed down to be read", width / 2, _BAR / 2 + 5, class_="title"),
        element("clipPath", element("rect", y=y, width=width, height=high), id="screen"),
        '<g clip-path="url(#screen)"><g class="roll">',
        *(_drawn(line, row) for row, line in enumerate(film.lines) if line.text.strip()),
        "</g>",
        element("rect", class_="cover", x=1, y=y, width=width - 2, height=high),
        "</g>",
    )


def _drawn(line: _Line, row: int) -> str:
    content = line.text.strip()
    return text(
        content.replace(" ", _NO_BREAK),
        _LEFT + _ADVANCE * line.text.index(content),
        _TOP + _LEADING * row,
        textLength=_ADVANCE * len(content),  # columns stay below each other in any font
        **({"class_": line.style} if line.style else {}),
    )


def _film(cast: Cast) -> _Film:
    """Return the lines of *cast*, and when they come: not too late, and not too fast to be read.

    Raises:
        ValueError: there is more to it than lines and styles.
    """
    if not _STYLES.sub("", "".join(data for _, data in cast.outputs)).replace("\r\n", "").isprintable():
        raise ValueError("The demo's output moves the cursor; that can't be drawn.")
    decoder = AnsiDecoder()
    lines = [_Line(_PROMPT, "")]
    steps = [(0.0, len(lines))]
    at, before = 1.0, cast.outputs[0][0]
    for now, written in _written(cast):
        line = decoder.decode_line(written)
        if _LEFT_OUT in line.plain:
            break
        style = _style(line)
        wait = min(now - before, _LONGEST_WAIT)
        at += max(wait, _READING) if style == "step" and len(steps) > 1 else wait
        before = now
        lines += [
            _Line(line.plain[start : start + cast.columns].rstrip(), style)
            for start in range(0, max(len(line), 1), cast.columns)
        ]
        steps.append((at, len(lines) + 1))  # and the empty line of the cursor
    return _Film(lines, steps, at + _LAST_SCREEN)


def _written(cast: Cast) -> Iterator[tuple[float, str]]:
    """Yield each line, and when it was complete: an output may be several lines, or a part of one."""
    line = ""
    for now, data in cast.outputs:
        *whole, line = (line + data).split("\r\n")
        yield from ((now, it) for it in whole)
    if line:
        yield cast.outputs[-1][0], line


def _style(line: Text) -> str:
    """Return the style of the whole *line*, which is that of its first word."""
    first = len(line.plain) - len(line.plain.lstrip())
    if not line.plain or not line.get_style_at_offset(_CONSOLE, first).bold:
        return ""
    return "step" if _STEP.match(line.plain) else "bold"


def _keyframes(places: Sequence[tuple[float, float]], length: float) -> str:
    """Return a jump to each place at its time, without those that change nothing."""
    last = list(dict(places).items())  # of several lines that come at once
    kept = [last[0], *(after for before, after in pairwise(last) if after[1] != before[1])]
    return "".join(
        f"{number(100 * at / length)}%{{transform:translateY({number(place)}px)}}" for at, place in kept
    )
