"""JSON log records, which Lambda's runtime writes and MiniStack's does not.

Each function's Python loads this at start, as ``sitecustomize``. Every log
record becomes one line of JSON with the fields of its ``extra=``, as under
Lambda's JSON log format (awslambdaric's JsonFormatter), in the file that
FUNCTION_LOG names.
"""

import json
import logging
import os

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({})))


class _OneLineOfJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
        line = {"level": record.levelname, "message": record.getMessage()} | extra
        if record.exc_info:
            line["stackTrace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


if path := os.environ.get("FUNCTION_LOG"):
    _handler = logging.FileHandler(path)
    _handler.setFormatter(_OneLineOfJson())
    logging.basicConfig(level=os.environ.get("AWS_LAMBDA_LOG_LEVEL", "INFO"), handlers=[_handler])
