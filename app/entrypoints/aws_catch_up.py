"""The Lambda function that delivers to clients that come back what they missed."""

import os

from app.containers.catching_up import CatchingUp
from app.entrypoints.catch_up import CatchUpHandler
from app.settings import Settings

_container = CatchingUp(settings=Settings.from_environ(os.environ))

handler = CatchUpHandler(
    _container.read_catch_up(), _container.catch_up_client(), _container.clock(), _container.workers()
)
