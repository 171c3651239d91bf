"""The Lambda functions of the handshakes: ``connect``, ``disconnect``, and ``handler`` for both.

Everything is built when Lambda imports the module: a wrong setting fails the
start, and no client waits for it.
"""

import gc

gc.disable()  # imports leave no garbage, and looking for it takes a tenth of the start

import logging
import os

from app.containers import compose_handshakes
from app.entrypoints.routes import Routes
from app.settings import Settings

# Collecting these fields takes longer than the rest of a log record, and nothing reads them: a bug's stack
# trace names the place. See 'Optimization' in Python's logging HOWTO.
logging._srcfile = None  # noqa: SLF001 - documented in that HOWTO
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # missing in mypy's stubs

_routes = Routes(*compose_handshakes(Settings.from_environ(os.environ)))

connect = _routes.connect
disconnect = _routes.disconnect
handler = _routes.handler

gc.freeze()  # what exists now is never garbage
gc.enable()
