"""The architecture: what infra/template.yaml creates, where it stands, and what flows between."""

from dataclasses import dataclass
from enum import StrEnum

from infra.pictures.svg import Point
from infra.pictures.themes import Flow

TITLE = "The architecture of Switchboard"

DESCRIPTION = (
    "Clients connect to an API Gateway WebSocket API. It calls the function connect, which records the "
    "connection in a DynamoDB table before the handshake is answered, and the function disconnect, "
    "which deletes it. The function sweep probes the connections every 5 minutes and deletes the items "
    "of dead ones. The function changes processes the table's stream: it undoes late writes, keeps each "
    "client's session in a table, and puts clients that come back into a queue. The function presence "
    "publishes from that table's stream who joined and left, to an EventBridge bus if there is one. "
    "Alerts come through a queue to the function send, which reads from the table whom they concern and "
    "posts them to each client; it keeps reports and a history. The function catch up sends clients "
    "that come back what they missed, from the history. With tokens, the function keys fetches the "
    "issuer's keys, which connect reads; tickets have a table, too. Three queues keep what was given "
    "up."
)


class Kind(StrEnum):
    """What a node is."""

    API = "api"
    FUNCTION = "function"
    TABLE = "table"
    QUEUE = "queue"
    GIVEN_UP = "given-up"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Node:
    """A box. *id* is a resource's logical id, ``PresenceBus``, or names what is not in the template."""

    id: str
    kind: Kind
    name: str
    place: tuple[float, float, float, float]
    """x, y, width and height."""

    lines: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow from the box *source* to the box *target*, along *points*."""

    source: str
    target: str
    points: tuple[Point, ...]
    flow: Flow | None = None
    label: str = ""
    at: Point = (0, 0)
    """The middle of the label's baseline."""

    both_ways: bool = False


SIZE = (1060, 782)
FRAME = (132, 12, 809, 632)

CLIENTS, ISSUER, BUS, SOURCES = "clients", "issuer", "PresenceBus", "sources"

NODES = (
    Node(CLIENTS, Kind.OUTSIDE, "Clients", (10, 54, 102, 572), ("dashboards,", "agents")),
    Node(
        "WebSocketApi",
        Kind.API,
        "API Gateway",
        (154, 54, 108, 572),
        ("WebSocket API:", "a handshake", "waits for the", "answer"),
    ),
    Node("TicketsTable", Kind.TABLE, "tickets", (346, 66, 81, 36), optional=True),
    Node("KeysTable", Kind.TABLE, "keys", (433, 66, 81, 36), optional=True),
    Node(
        "KeysFunction",
        Kind.FUNCTION,
        "keys",
        (594, 54, 162, 60),
        ("fetches the issuer's", "keys every 5 minutes"),
        optional=True,
    ),
    Node(ISSUER, Kind.OUTSIDE, "Issuer", (958, 58, 94, 52), ("of tokens",)),
    Node(
        "ConnectFunction",
        Kind.FUNCTION,
        "connect",
        (346, 150, 168, 62),
        ("records the connection,", "then answers"),
    ),
    Node(
        "DisconnectFunction",
        Kind.FUNCTION,
        "disconnect",
        (346, 230, 168, 62),
        ("deletes the item, and", "logs who it was"),
    ),
    Node(
        "SweepFunction",
        Kind.FUNCTION,
        "sweep",
        (346, 310, 168, 62),
        ("probes all, every 5 min;", "deletes the dead"),
    ),
    Node(
        "CatchUpFunction",
        Kind.FUNCTION,
        "catch up",
        (346, 398, 168, 72),
        ("sends who comes back", "what was missed"),
        optional=True,
    ),
    Node("HistoryTable", Kind.TABLE, "history", (346, 496, 81, 36), optional=True),
    Node("DeliveriesTable", Kind.TABLE, "reports", (433, 496, 81, 36)),
    Node(
        "SendFunction",
        Kind.FUNCTION,
        "send",
        (346, 558, 168, 68),
        ("delivers each alert to", "those whom it concerns"),
    ),
    Node(
        "ConnectionsTable",
        Kind.TABLE,
        "connections",
        (594, 150, 114, 276),
        ("one item per", "open connection", "", "your programs", "may read it, too"),
    ),
    Node(
        "ChangesFunction",
        Kind.FUNCTION,
        "changes",
        (766, 150, 160, 62),
        ("undoes late writes,", "tracks who is present"),
    ),
    Node("PresenceTable", Kind.TABLE, "sessions", (816, 240, 110, 38)),
    Node(
        "PresenceFunction",
        Kind.FUNCTION,
        "presence",
        (816, 310, 110, 62),
        ("publishes who", "joined and left"),
    ),
    Node(
        BUS,
        Kind.OUTSIDE,
        "Event bus",
        (958, 150, 94, 222),
        ("EventBridge,", "to your", "backends"),
        optional=True,
    ),
    Node("CatchUpQueue", Kind.QUEUE, "came back", (630, 438, 110, 36), optional=True),
    Node("MessageQueue", Kind.QUEUE, "alerts", (630, 586, 110, 36)),
    Node("FailedChangesQueue", Kind.GIVEN_UP, "stream records", (788, 404, 138, 28)),
    Node("DeadCatchUpsQueue", Kind.GIVEN_UP, "came back", (788, 448, 138, 28), optional=True),
    Node("DeadMessagesQueue", Kind.GIVEN_UP, "alerts", (788, 492, 138, 28)),
    Node(SOURCES, Kind.OUTSIDE, "Your alerts", (958, 540, 94, 86), ("SQS, SNS,", "EventBridge")),
)

_C, _D, _R, _B, _S, _P = Flow

EDGES = (
    Edge(CLIENTS, "WebSocketApi", ((112, 181), (154, 181)), _C),
    Edge("WebSocketApi", "ConnectFunction", ((262, 181), (346, 181)), _C, "$connect", (303, 174)),
    Edge("ConnectFunction", "ConnectionsTable", ((514, 181), (594, 181)), _C, "PutItem", (553, 174)),
    Edge("TicketsTable", "ConnectFunction", ((386, 102), (386, 150)), _C),
    Edge("KeysTable", "ConnectFunction", ((474, 102), (474, 150)), _C),
    Edge("KeysFunction", "KeysTable", ((594, 84), (514, 84))),
    Edge(ISSUER, "KeysFunction", ((958, 84), (756, 84))),
    Edge(CLIENTS, "WebSocketApi", ((112, 261), (154, 261)), _D),
    Edge("WebSocketApi", "DisconnectFunction", ((262, 261), (346, 261)), _D, "$disconnect", (303, 254)),
    Edge("DisconnectFunction", "ConnectionsTable", ((514, 261), (594, 261)), _D, "DeleteItem", (553, 254)),
    Edge("SweepFunction", "WebSocketApi", ((346, 341), (262, 341)), _R, "alive?", (305, 334)),
    Edge("WebSocketApi", CLIENTS, ((154, 341), (112, 341)), _R),
    Edge(
        "SweepFunction",
        "ConnectionsTable",
        ((514, 341), (594, 341)),
        _R,
        "scan, delete",
        (553, 334),
        both_ways=True,
    ),
    Edge("ConnectionsTable", "CatchUpFunction", ((594, 412), (514, 412)), _B),
    Edge("ChangesFunction", "CatchUpQueue", ((780, 212), (780, 448), (740, 448)), _B),
    Edge("CatchUpQueue", "CatchUpFunction", ((630, 456), (514, 456)), _B),
    Edge("HistoryTable", "CatchUpFunction", ((386, 496), (386, 470)), _B),
    Edge("DeliveriesTable", "CatchUpFunction", ((474, 496), (474, 470)), _B),
    Edge("CatchUpFunction", "WebSocketApi", ((346, 434), (262, 434)), _B, "missed", (305, 427)),
    Edge("WebSocketApi", CLIENTS, ((154, 434), (112, 434)), _B),
    Edge(SOURCES, "MessageQueue", ((958, 604), (740, 604)), _S, "for an account and region", (850, 597)),
    Edge("MessageQueue", "SendFunction", ((630, 604), (514, 604)), _S),
    Edge(
        "ConnectionsTable", "SendFunction", ((610, 426), (610, 578), (514, 578)), _S, "to whom?", (558, 571)
    ),
    Edge("SendFunction", "HistoryTable", ((386, 558), (386, 532)), _S),
    Edge("SendFunction", "DeliveriesTable", ((474, 558), (474, 532)), _S),
    Edge("SendFunction", "WebSocketApi", ((346, 592), (262, 592)), _S, "alert", (305, 585)),
    Edge("WebSocketApi", CLIENTS, ((154, 592), (112, 592)), _S),
    Edge("ConnectionsTable", "ChangesFunction", ((708, 172), (766, 172)), _P, "stream", (736, 165)),
    Edge("ChangesFunction", "ConnectionsTable", ((766, 196), (708, 196)), _R, "undo", (738, 212)),
    Edge("ChangesFunction", "PresenceTable", ((871, 212), (871, 240)), _P),
    Edge("PresenceTable", "PresenceFunction", ((871, 278), (871, 310)), _P),
    Edge("PresenceFunction", BUS, ((926, 341), (958, 341)), _P),
    Edge("ChangesFunction", BUS, ((926, 181), (958, 181)), _P),
    Edge("ChangesFunction", "FailedChangesQueue", ((798, 212), (798, 404))),
    Edge("PresenceFunction", "FailedChangesQueue", ((871, 372), (871, 404))),
    Edge("CatchUpQueue", "DeadCatchUpsQueue", ((740, 464), (788, 464))),
    Edge("MessageQueue", "DeadMessagesQueue", ((700, 586), (700, 506), (788, 506))),
)

NOT_DRAWN = {("ChangesFunction", "WebSocketApi")}
"""With ConnectionsPerClient it closes connections: one more line across the whole picture."""

BADGES = {
    _C: (133, 181),
    _D: (133, 261),
    _R: (133, 341),
    _B: (133, 434),
    _S: (133, 592),
    _P: (871, 226),
}
"""Where a flow's number is."""

CLIENTS_DO = {
    _C: "connect",
    _D: "leave",
    _R: "vanish",
    _B: "come back",
    _S: "get alerts",
}

NOTES = (
    ("one stack per stream; one container image, one function per job", (150, 38)),
    ("given up after retries;", (788, 540)),
    ("each has an alarm", (788, 556)),
)

LEGEND = {
    _C: ("Connect", "It is in the table before its handshake is answered."),
    _D: ("Disconnect", "It is out of the table, and the log says who it was."),
    _R: ("Repair", "Lost disconnects are found, and late writes undone."),
    _B: ("Come back", "Who was away gets what it missed."),
    _S: ("Send", "An alert reaches exactly those whom it concerns."),
    _P: ("Presence", "Who joined and left, in the log and on a bus."),
}

KEY = {
    Kind.FUNCTION: "Lambda function",
    Kind.TABLE: "DynamoDB table",
    Kind.QUEUE: "SQS queue",
}
"""What the icons mean."""

OPTIONAL = "dashed: optional, for tokens, tickets, a history or a bus"
