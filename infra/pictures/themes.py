"""The colours of the pictures, for GitHub's light and dark pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Flow(StrEnum):
    """What happens, each with its colour; the numbers of the architecture's legend are their order."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    REPAIR = "repair"
    COME_BACK = "come-back"
    SEND = "send"
    PRESENCE = "presence"


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a picture; each text has a contrast of 4.5 or more to what is behind it (WCAG AA)."""

    name: str
    page: str
    frame: str
    box: str
    line: str
    text: str
    muted: str
    on_colour: str
    flows: Mapping[Flow, str]


LIGHT = Theme(
    name="light",
    page="#ffffff",
    frame="#f6f8fa",
    box="#ffffff",
    line="#d1d9e0",
    text="#1f2328",
    muted="#59636e",
    on_colour="#ffffff",
    flows={
        Flow.CONNECT: "#1a7f37",
        Flow.DISCONNECT: "#8f5f00",
        Flow.REPAIR: "#cf222e",
        Flow.COME_BACK: "#8250df",
        Flow.SEND: "#0969da",
        Flow.PRESENCE: "#b3307f",
    },
)

DARK = Theme(
    name="dark",
    page="#0d1117",
    frame="#131920",
    box="#1c232c",
    line="#3d444d",
    text="#f0f6fc",
    muted="#9aa4af",
    on_colour="#0d1117",
    flows={
        Flow.CONNECT: "#3fb950",
        Flow.DISCONNECT: "#d29922",
        Flow.REPAIR: "#ff7b72",
        Flow.COME_BACK: "#b992ff",
        Flow.SEND: "#58a6ff",
        Flow.PRESENCE: "#f778ba",
    },
)

THEMES = (LIGHT, DARK)
