"""`make run`: the stack stays up, with a table of who is connected."""

import time

from infra.screen import Screen
from infra.stack import LocalStack

_EVERY = 0.5  # seconds


def watch(stack: LocalStack, screen: Screen) -> None:
    """Show who is connected until Ctrl-C."""
    url = f"{stack.websocket_url}?clientId=me&account=123456789012&region=eu-central-1"
    screen.say("Connect, from another terminal or a browser's console:")
    screen.add(
        f"wscat -c '{url}'",
        f"websocat '{url}'",
        f"new WebSocket('{url}')",
    )
    screen.say("The same list by the command line, from another terminal:")
    screen.add(
        *(f"export {name}={value}" for name, value in stack.environment.items()),
        "make cli ARGS=ls",
    )
    screen.say("Who is connected, until Ctrl-C:")
    with screen.live() as show:
        while True:
            show(stack.rows())
            time.sleep(_EVERY)
