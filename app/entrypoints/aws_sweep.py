"""The Lambda function of the sweep."""

import os

from app.containers.operations import Operations
from app.entrypoints.publisher import LogPublisher
from app.entrypoints.sweep import SweepHandler
from app.settings import Settings

_settings = Settings.from_environ(os.environ)
_container = Operations(settings=_settings, publisher=LogPublisher())

handler = SweepHandler(_container.sweep_connections(), _container.clock(), _settings.sweep)
