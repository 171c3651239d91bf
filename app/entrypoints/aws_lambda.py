"""The functions that Lambda calls; an image's command names one of them.

All that a call needs is built here, when Lambda imports the module: a setting
that is wrong fails the start, and no first client waits for a client library.
"""

import os

from app.container import Container
from app.entrypoints.routes import Routes
from app.settings import Settings

_container = Container(settings=Settings.from_environ(os.environ))
_routes = Routes(_container.open_connection(), _container.close_connection())

connect = _routes.connect
disconnect = _routes.disconnect
handler = _routes.handler
