"""The Lambda function that delivers messages from the queue."""

import os

from app.containers.sending import Sending
from app.entrypoints.send import SendHandler
from app.settings import Settings

_container = Sending(settings=Settings.from_environ(os.environ))

handler = SendHandler(
    _container.read_message(), _container.deliver_message(), _container.queue(), _container.clock()
)
