"""The Lambda function that follows the stream of the connections table."""

import os

from app.containers.stream import Stream
from app.entrypoints.publisher import LogPublisher
from app.entrypoints.stream import StreamHandler
from app.settings import Settings

_container = Stream(settings=Settings.from_environ(os.environ), publisher=LogPublisher())

handler = StreamHandler(_container.track_presence(), _container.read_image(), _container.clock())
