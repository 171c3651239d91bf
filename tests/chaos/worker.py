"""A worker process: one execution environment of Lambda, with the routes as the environment sets them up.

It takes an event a line on standard input and gives the answer's status on
standard output, one at a time, until its input ends.
"""

import json
import logging
import os
import sys

from app.container import Container
from app.entrypoints.routes import Routes
from app.settings import Settings
from tests.chaos.flaws import with_flaw


def main() -> None:
    # of its records only a bug's is worth a look, and every run has thousands of the others
    logging.getLogger("switchboard").addFilter(lambda record: getattr(record, "event", "") == "bug")
    settings = Settings.from_environ(os.environ)
    store = with_flaw(Container(settings=settings).store(), os.environ["CHAOS_FLAW"])
    container = Container(settings=settings, store=store)
    routes = Routes(container.open_connection(), container.close_connection())
    _say("ready")
    for line in sys.stdin:
        _say(str(routes.handler(json.loads(line), None)["statusCode"]))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


main()
