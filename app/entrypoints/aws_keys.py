"""The Lambda function that fetches the issuer's keys."""

import os

from app.containers.keys import Keys
from app.entrypoints.keys import KeysHandler
from app.settings import Settings

handler = KeysHandler(Keys(settings=Settings.from_environ(os.environ)).refresh_keys())
