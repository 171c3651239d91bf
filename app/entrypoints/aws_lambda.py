"""The functions that Lambda calls; an image's command names one of them.

All that a call needs is built here, when Lambda imports the module: a setting
that is wrong fails the start, and no first client waits for a client library.
"""

import gc

gc.disable()  # nothing of what is imported is garbage, and to look for it takes a tenth of the start

import logging
import os

from app.container import Container
from app.entrypoints.routes import Routes
from app.settings import Settings

# To gather these for a record takes longer than all the rest of it. Nobody reads them but for the place that
# a record of a bug names, and its stack trace names that too. This is the way of Python's logging HOWTO
# ('Optimization'); mypy's stubs don't have the last one.
logging._srcfile = None  # noqa: SLF001
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging.logAsyncioTasks = False  # type: ignore[attr-defined]

_container = Container(settings=Settings.from_environ(os.environ))
_routes = Routes(_container.open_connection(), _container.close_connection())

connect = _routes.connect
disconnect = _routes.disconnect
handler = _routes.handler

gc.freeze()  # what is there now stays, and need not be looked at again
gc.enable()
