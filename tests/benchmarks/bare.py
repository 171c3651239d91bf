"""A bare process: Python, the event, the handler and its answer, without Lambda's runtime.

Here the cost of logging, and of all that a subject imports, is the subject's
own; no log record is written. The driver measures the same start with the
runtime.
"""

import json
import sys
from importlib import import_module


def main(connect_handler: str) -> None:
    """Answer one event with the handler of that name."""
    module, _, function = connect_handler.rpartition(".")
    connect = getattr(import_module(module), function)
    print(json.dumps(connect(json.loads(sys.stdin.readline()), None)), flush=True)
