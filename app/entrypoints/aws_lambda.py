"""The functions that Lambda calls; an image's command names one of them.

All that a call needs is built when Lambda imports the module and asks it for
the function: a setting that is wrong fails the start, and no first client
waits for a client library.
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

_settings = Settings.from_environ(os.environ)
_container = Container(settings=_settings)
_routes = Routes(_container.open_connection(), _container.close_connection())

connect = _routes.connect
disconnect = _routes.disconnect
handler = _routes.handler


def __getattr__(name: str) -> object:
    """``sweep`` and ``on_change``, whose imports no handshake is to wait for (PEP 562)."""
    if name == "sweep":
        from app.entrypoints.sweeping import Sweeping  # noqa: PLC0415

        return Sweeping(_container.sweep_connections(), _container.clock(), _settings.sweep)
    if name == "on_change":
        from app.entrypoints.changes import Changes  # noqa: PLC0415

        return Changes(_container.follow_changes(), _container.read_image(), _container.clock())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


gc.freeze()  # what is there now stays, and need not be looked at again
gc.enable()
