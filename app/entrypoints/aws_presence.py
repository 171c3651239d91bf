"""The Lambda function that follows the stream of the presence table."""

import os

from app.containers.presence import PresenceEvents
from app.entrypoints.presence import PresenceHandler
from app.entrypoints.publisher import LogPublisher
from app.settings import Settings

_container = PresenceEvents(settings=Settings.from_environ(os.environ), publisher=LogPublisher())

handler = PresenceHandler(_container.publish_presence(), _container.read_presence(), _container.clock())
