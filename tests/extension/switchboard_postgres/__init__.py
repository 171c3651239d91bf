"""Switchboard's connections in PostgreSQL: ``STORE=switchboard_postgres:storage``."""

import atexit
import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool, PoolTimeout

from app.domain.errors import AlreadyClosed, InvalidSelection, StorageUnavailable
from app.domain.model import Connection, ConnectionId, Entry, Removed, Tombstone, is_older
from app.domain.selection import Page, Selection

_SCHEMA = (Path(__file__).parent / "schema.sql").read_text()

_NAMES = ("client_id", "account", "region", "source_ip")
_DETAILS = ("user_agent", "api_id", "domain_name", "stage", "principal_id", "since", "attributes")
_SCAN_PAGE = 1000  # rows

_INSERT = """
    INSERT INTO switchboard_connections AS existing
        (id, connected_at, closed_at, created_at, expires_at, admitted_until,
        client_id, account, region, source_ip, details)
    VALUES (%(id)s, %(connected_at)s, %(closed_at)s, %(created_at)s, %(expires_at)s, %(admitted_until)s,
        %(client_id)s, %(account)s, %(region)s, %(source_ip)s, %(details)s)
    ON CONFLICT (id) DO UPDATE SET
        (connected_at, closed_at, created_at, expires_at, admitted_until,
         client_id, account, region, source_ip, details)
        = (EXCLUDED.connected_at, EXCLUDED.closed_at, EXCLUDED.created_at, EXCLUDED.expires_at,
           EXCLUDED.admitted_until, EXCLUDED.client_id, EXCLUDED.account, EXCLUDED.region, EXCLUDED.source_ip,
           EXCLUDED.details)
"""
_ADD = _INSERT + "WHERE existing.connected_at < EXCLUDED.connected_at RETURNING new.id"
_TOMBSTONE = _INSERT + (
    "WHERE existing.connected_at IS NULL OR existing.connected_at <= EXCLUDED.connected_at RETURNING old.*"
)
_REMOVE = """
    DELETE FROM switchboard_connections WHERE id = %(id)s AND closed_at IS NULL
        AND (%(at)s::timestamptz IS NULL OR connected_at IS NULL OR connected_at <= %(at)s) RETURNING *
"""
_DELETE_EXACT = """
    DELETE FROM switchboard_connections WHERE id = %(id)s
        AND connected_at IS NOT DISTINCT FROM %(connected_at)s
        AND closed_at IS NOT DISTINCT FROM %(closed_at)s
        AND created_at IS NOT DISTINCT FROM %(created_at)s
"""
_HASHES = 2**32  # of hashtext(), from -2**31
_SCAN = """
    SELECT *, hashtext(id) AS hash FROM switchboard_connections
    WHERE (hashtext(id), id) > (%(hash)s, %(after)s) AND hashtext(id) < %(end)s
    ORDER BY hashtext(id), id LIMIT %(limit)s
"""
_PAGE = """
    SELECT * FROM switchboard_connections
    WHERE closed_at IS NULL AND id > %(after)s
        AND (%(client_id)s::text IS NULL OR client_id = %(client_id)s)
        AND (%(account)s::text IS NULL OR account = %(account)s)
        AND (%(region)s::text IS NULL OR region = %(region)s)
    ORDER BY id LIMIT %(limit)s
"""


def storage(environ: Mapping[str, str]) -> "PostgresConnections":
    """Return the storage that ``POSTGRES_URL`` names.

    Raises:
        ValueError: it is missing, or a variable is malformed.
    """
    url = environ.get("POSTGRES_URL", "")
    try:
        parameters = conninfo_to_dict(url) if url else {}
    except psycopg.ProgrammingError:
        parameters = {}
    if not parameters:
        raise ValueError("POSTGRES_URL must be the URL of a database, such as postgresql://user@host/name.")
    made = PostgresConnections(
        parameters,
        connections=_whole_number(environ, "POSTGRES_CONNECTIONS", default=1, least=1),
        limit=_whole_number(environ, "POSTGRES_TIMEOUT", default=2, least=2),  # the least of libpq
    )
    atexit.register(made.close)  # or the pool's threads hold up the end of the command line
    return made


class PostgresConnections:
    """ConnectionStore and ConnectionTable in the table ``switchboard_connections``. Thread-safe.

    A call waits at most *limit* seconds for each statement, which the database
    itself cancels after three quarters of it, as long until the connection has
    shown that it works, and one and a half times as long for a connection.
    """

    page_size = 100

    def __init__(self, parameters: Mapping[str, Any], *, connections: int, limit: int) -> None:
        def configure(connection: _Connection) -> None:
            connection.limit = limit

        options = f"{parameters.get('options', '')} -c TimeZone=UTC -c statement_timeout={limit * 750}"
        self._pool = ConnectionPool(
            min_size=1,
            max_size=connections,
            timeout=limit * 1.5,
            reconnect_timeout=1,  # then the next call has it try again
            open=True,
            connection_class=_Connection,
            configure=configure,
            check=ConnectionPool.check_connection,  # one may have ended while the function was frozen
            kwargs={
                "connect_timeout": limit,
                **parameters,
                "autocommit": True,
                "options": options,
            },
        )

    def add(self, connection: Connection) -> Connection:
        while not self._all(_ADD, _row_of(connection)):
            for row in self._all("SELECT * FROM switchboard_connections WHERE id = %s", [connection.id]):
                existing = _entry(row)
                if isinstance(existing, Tombstone) or is_older(
                    connection.connected_at, existing.connected_at
                ):
                    raise AlreadyClosed
                if not is_older(existing.connected_at, connection.connected_at):
                    return existing
            # what had its id was removed meanwhile, or replaced by something older
        return connection

    def remove(self, connection_id: ConnectionId, connected_at: datetime | None) -> Removed:
        return _removed(self._all(_REMOVE, {"id": connection_id, "at": connected_at}))

    def tombstone(self, tombstone: Tombstone) -> Removed:
        if tombstone.connected_at is None:
            raise ValueError("A tombstone is written for a connection of a known time.")
        return _removed(self._all(_TOMBSTONE, _row_of(tombstone)))

    def get(self, connection_id: ConnectionId) -> Connection | None:
        return _removed(
            self._all("SELECT * FROM switchboard_connections WHERE id = %s", [connection_id])
        ).connection

    def scan(self, segment: int, of: int) -> Iterator[Entry]:
        first, end = (number * _HASHES // of - _HASHES // 2 for number in (segment, segment + 1))
        place = {"hash": first, "after": ""}
        while rows := self._all(_SCAN, {**place, "end": end, "limit": _SCAN_PAGE}):
            yield from map(_entry, rows)
            place = {"hash": rows[-1]["hash"], "after": rows[-1]["id"]}

    def page(self, selection: Selection, after: str | None = None) -> Page:
        filters = {"client_id": selection.client_id, "account": selection.account, "region": selection.region}
        place = {"after": _last_id_in(after, filters), "limit": self.page_size + 1}
        rows = self._all(_PAGE, filters | place)
        here = rows[: self.page_size]
        more = len(rows) > self.page_size
        found = tuple(entry for entry in map(_entry, here) if isinstance(entry, Connection))
        return Page(found, _token(filters, here[-1]["id"]) if more else None)

    def delete_exact(self, entry: Entry) -> bool:
        with self._cursor() as cursor:
            return cursor.execute(_DELETE_EXACT, _row_of(entry)).rowcount > 0

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def reset(self) -> None:
        """Create the table if it is missing, and delete everything: for the contract tests."""
        with self._cursor() as cursor:
            cursor.execute(_SCHEMA + "TRUNCATE switchboard_connections")

    def _all(self, query: str, parameters: Any) -> list[dict[str, Any]]:
        with self._cursor() as cursor:
            return cursor.execute(query, parameters).fetchall()

    @contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[dict[str, Any]]]:
        try:
            with self._pool.connection() as connection:
                try:
                    with connection.cursor(row_factory=dict_row) as cursor:
                        yield cursor
                except psycopg.errors.ReadOnlySqlTransaction:
                    connection.close()  # the server is a primary no longer: the next call connects anew
                    raise
        except (PoolTimeout, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise StorageUnavailable(type(error).__name__, outcome_unknown=False) from error
        except psycopg.OperationalError as error:
            is_answer = error.sqlstate is not None and not error.sqlstate.startswith("57P")  # shutting down
            raise StorageUnavailable(type(error).__name__, outcome_unknown=not is_answer) from error


class _Connection(psycopg.Connection[Any]):
    """It closes if the server does not answer within its limit: psycopg would wait without end."""

    limit = 2.0  # seconds

    def wait[T](self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        try:
            return super().wait(gen, interval, self.limit if timeout is None else timeout)
        finally:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:  # the answer is still to come
                self.close()


def _whole_number(environ: Mapping[str, str], name: str, *, default: int, least: int) -> int:
    value = environ.get(name) or str(default)
    if not value.isdecimal() or int(value) < least:
        raise ValueError(f"{name} must be a whole number from {least}.")
    return int(value)


def _row_of(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(
        ("closed_at", "created_at", "admitted_until", "client_id", "account", "region", "source_ip")
    )
    if isinstance(entry, Tombstone):
        values = entry._asdict()
        return row | values | {"id": values.pop("connection_id"), "details": None}
    names = ("id", "connected_at", "created_at", "expires_at", "admitted_until", *_NAMES)
    row |= {name: getattr(entry, name) for name in names}
    return row | {"details": Jsonb({name: getattr(entry, name) for name in _DETAILS})}


def _entry(row: Mapping[str, Any]) -> Entry:
    if row["closed_at"] is not None:
        return Tombstone(row["id"], row["connected_at"], row["closed_at"], row["expires_at"])
    values = {name: value for name, value in row.items() if name not in {"closed_at", "details", "hash"}}
    return Connection(**values, **row["details"])


def _removed(rows: list[dict[str, Any]]) -> Removed:
    entry = _entry(rows[0]) if rows and rows[0]["id"] is not None else None
    return Removed(entry if isinstance(entry, Connection) else None)


def _token(filters: Mapping[str, Any], last: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([filters, last]).encode()).decode()


def _last_id_in(token: str | None, filters: Mapping[str, Any]) -> str:
    if token is None:
        return ""
    try:
        given, last = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, RecursionError):
        given, last = None, None
    if given != filters or not (isinstance(last, str) and last.isprintable()):
        raise InvalidSelection("This is not a page token of this selection.")
    return last
