"""Many recipients, and a stub of DynamoDB whose Query returns pages of them.

The stub runs as a process of its own, prints its port, and ends when its
standard input closes. A table's name says how many recipients it has.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.items import connection_from, item_of
from app.adapters.dynamodb.table import RECIPIENT_PAGE
from app.domain.model import Connection, ConnectionId
from tests.benchmarks.stub import ITEM, DynamoDB, serve

_BEGINNING = "JKJcXeXAm"  # of an id
_MAX_PAGE = 1024 * 1024  # bytes of items ('Paginating table query results', DynamoDB's developer guide)
_KEY = ("connectionId", "indexedAccount", "indexedRegion")  # of the index byAccount
_ID = "CONNECTION-ID"  # a placeholder


def a_recipient(number: int, *, age: timedelta = timedelta(minutes=5)) -> Connection:
    """Return a recipient that connected that long ago."""
    began = SystemClock().now() - age
    return connection_from(ITEM)._replace(
        id=ConnectionId(f"{_BEGINNING}{number:06}="),
        created_at=began,
        connected_at=began,
        expires_at=(began + timedelta(hours=24)).replace(microsecond=0),
    )


def number_of(connection_id: str) -> int:
    """Return the number of the recipient with that id."""
    return int(connection_id.removeprefix(_BEGINNING).removesuffix("="))


def table_of(recipients: int) -> str:
    """Return the name of the table that has so many recipients."""
    return f"recipients-{recipients}"


@contextmanager
def running_pages(certificate: Path) -> Iterator[str]:
    """Run the stub until the block ends, over TLS with that *certificate*, and yield its endpoint."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sending.pages", str(certificate)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,  # closes when this process ends, and ends the stub
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us to handle
    ) as process:
        try:
            assert process.stdout
            yield f"https://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def _item() -> dict[str, Any]:
    return item_of(a_recipient(0)._replace(id=ConnectionId(_ID)))


def _size(item: Mapping[str, Mapping[str, str]]) -> int:
    """Return the bytes that DynamoDB counts for *item*."""
    return sum(len(name) + len(text) for name, value in item.items() for text in value.values())


MB_LENGTH = _MAX_PAGE // _size(_item())
"""Recipients in 1 MB: the whole items count, whatever attributes are asked for."""
PAGE_LENGTH = min(RECIPIENT_PAGE, MB_LENGTH)
"""Recipients in a page that sending reads."""


class Recipients(DynamoDB):
    """Answers each Query with the page after the request's key."""

    @staticmethod
    def body_for(request: Mapping[str, Any]) -> bytes:
        recipients = int(request["TableName"].rpartition("-")[2])
        after = request.get("ExclusiveStartKey")
        first = number_of(after["connectionId"]["S"]) + 1 if after else 0
        end = min(first + min(request.get("Limit", MB_LENGTH), MB_LENGTH), recipients)
        item = _item()
        asked = {name: item[name] for name in request["ExpressionAttributeNames"].values() if name in item}
        template = json.dumps(asked, separators=(",", ":"))
        items = [template.replace(_ID, a_name) for a_name in _names(first, end)]
        body = f'{{"Items":[{",".join(items)}],"Count":{len(items)},"ScannedCount":{len(items)}'
        if end < recipients:
            [last] = _names(end - 1, end)
            key = json.dumps({name: item[name] for name in _KEY}).replace(_ID, last)
            body += f',"LastEvaluatedKey":{key}'
        return f"{body}}}".encode()


def _names(first: int, end: int) -> list[str]:
    return [f"{_BEGINNING}{number:06}=" for number in range(first, end)]


if __name__ == "__main__":
    serve(Recipients, *sys.argv[1:])
