"""A bare process: Python, the event, the handler, its answer, and nothing of Lambda's runtime.

A subject pays here for whatever it imports itself, logging among it; no log
record is written. The driver is the other view of the same start.
"""

import json
import sys
from importlib import import_module


def main(connect_handler: str) -> None:
    """Answer one event."""
    module, _, function = connect_handler.rpartition(".")
    connect = getattr(import_module(module), function)
    print(json.dumps(connect(json.loads(sys.stdin.readline()), None)), flush=True)
