"""A worker process: one execution environment of Lambda, with the routes as its variables configure them.

It reads one event per line from standard input and writes the answer's status
to standard output, until its input ends.
"""

import json
import logging
import os
import sys

from app.containers.handshakes import Handshakes
from app.entrypoints.routes import Routes
from app.settings import Settings
from tests.chaos.flaws import with_flaw


def main() -> None:
    # a run has thousands of the other records
    logging.getLogger("switchboard").addFilter(lambda record: getattr(record, "event", "") == "bug")
    settings = Settings.from_environ(os.environ)
    store = with_flaw(Handshakes(settings=settings).store(), os.environ["CHAOS_FLAW"])
    container = Handshakes(settings=settings, store=store)
    routes = Routes(container.open_connection(), container.close_connection())
    _print("ready")
    for line in sys.stdin:
        _print(str(routes.handler(json.loads(line), None)["statusCode"]))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


main()
