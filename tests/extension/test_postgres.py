"""Expiry, time-outs and settings of the adapter. tests/architecture/test_extension.py runs this."""

import base64
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from switchboard_postgres import PostgresConnections, storage

from app.domain.errors import InvalidSelection, StorageUnavailable
from app.domain.model import ConnectionId, Removed
from app.domain.selection import Selection
from tests.builders import NOON, a_connection

README = Path(__file__).parent / "README.md"


@pytest.fixture
def database() -> Iterator[psycopg.Connection]:
    """Another client of the database, which may hold a lock."""
    with psycopg.connect(os.environ["POSTGRES_URL"]) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def postgres() -> Iterator[PostgresConnections]:
    # a busy machine may take a quarter of the limit to say that a statement was cancelled
    limits = {"POSTGRES_CONNECTIONS": "1", "POSTGRES_TIMEOUT": "4"}
    with closing(storage(os.environ | limits)) as postgres:
        postgres.reset()
        yield postgres
        postgres.reset()  # as the contract tests want it


END_ALL = "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = %s"


def lock(database: psycopg.Connection) -> None:
    database.execute("LOCK TABLE switchboard_connections")


def test_a_statement_that_takes_too_long_is_cancelled(
    postgres: PostgresConnections, database: psycopg.Connection
) -> None:
    lock(database)

    with pytest.raises(StorageUnavailable) as error:
        postgres.add(a_connection())
    database.rollback()

    assert (error.value.reason, error.value.outcome_unknown) == ("QueryCanceled", False)
    assert postgres.remove(a_connection().id, NOON) == Removed(None)


def test_a_call_does_not_wait_long_for_a_connection(
    postgres: PostgresConnections, database: psycopg.Connection
) -> None:
    lock(database)

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(postgres.get, a_connection().id) for _ in range(4)]
        reasons = {getattr(call.exception(), "reason", None) for call in calls}

    assert reasons == {"QueryCanceled", "PoolTimeout"}


def test_a_connection_that_is_lost_during_a_write_leaves_its_outcome_unknown(
    postgres: PostgresConnections, database: psycopg.Connection
) -> None:
    lock(database)
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(postgres.add, a_connection())
        while not (row := database.execute(waiting).fetchone()):
            assert not call.done()
        database.execute("SELECT pg_terminate_backend(%s)", row)
        error = call.exception()

    assert isinstance(error, StorageUnavailable)
    assert error.outcome_unknown


def test_the_next_call_gets_a_new_connection_for_one_that_was_lost(
    postgres: PostgresConnections, database: psycopg.Connection
) -> None:
    database.execute(f"{END_ALL} AND pid <> pg_backend_pid()", [database.info.dbname])

    assert postgres.add(a_connection()) == a_connection()


def test_a_server_that_does_not_answer_leaves_the_outcome_unknown(
    postgres: PostgresConnections, database: psycopg.Connection
) -> None:
    change_session(postgres, "statement_timeout = 0")
    lock(database)

    with pytest.raises(StorageUnavailable) as error:
        postgres.add(a_connection())
    database.rollback()

    assert error.value.outcome_unknown
    assert postgres.add(a_connection()) == a_connection()


def test_a_server_that_is_a_primary_no_longer_is_unavailable_once(postgres: PostgresConnections) -> None:
    change_session(postgres, "default_transaction_read_only = on")

    with pytest.raises(StorageUnavailable) as error:
        postgres.add(a_connection())

    assert (error.value.reason, error.value.outcome_unknown) == ("ReadOnlySqlTransaction", False)
    assert postgres.add(a_connection()) == a_connection()


def change_session(postgres: PostgresConnections, setting: str) -> None:
    with postgres._pool.connection() as connection:  # noqa: SLF001 - the only one, for the server's faults
        connection.execute(f"SET {setting}")


def test_the_first_call_after_an_outage_succeeds(postgres: PostgresConnections) -> None:
    url = os.environ["POSTGRES_URL"]
    database = str(conninfo_to_dict(url)["dbname"])
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(url, dbname="template1", autocommit=True) as server:
        server.execute(allow.format(sql.Identifier(database), sql.SQL("false")))
        try:
            server.execute(END_ALL, [database])
            for _ in range(2):
                with pytest.raises(StorageUnavailable, match="PoolTimeout"):
                    postgres.get(a_connection().id)
        finally:
            server.execute(allow.format(sql.Identifier(database), sql.SQL("true")))

    assert postgres.add(a_connection()) == a_connection()


@pytest.mark.parametrize("last", ["\0", "\udc80", 5, [[]]])
def test_a_page_token_with_another_id_is_refused(postgres: PostgresConnections, last: object) -> None:
    filters = {"client_id": None, "account": None, "region": None}
    token = base64.urlsafe_b64encode(json.dumps([filters, last]).encode()).decode()

    with pytest.raises(InvalidSelection):
        postgres.page(Selection(), token)


def test_the_options_of_the_url_are_kept() -> None:
    url = os.environ["POSTGRES_URL"]
    other_schema = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Delsewhere"

    with (
        closing(storage({"POSTGRES_URL": other_schema})) as elsewhere,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        elsewhere.get(a_connection().id)


def test_the_statement_of_the_readme_deletes_what_has_expired(
    postgres: PostgresConnections, database: psycopg.Connection
) -> None:
    [statement] = re.findall("^DELETE .*;$", README.read_text(), re.MULTILINE)
    live = postgres.add(a_connection(id=ConnectionId("live")))
    postgres.add(
        a_connection(id=ConnectionId("expired"), expires_at=datetime.now(UTC) - timedelta(seconds=1))
    )

    database.execute(statement)
    database.commit()

    assert list(postgres.scan(0, of=1)) == [live]


def test_a_database_that_is_not_there_is_unavailable() -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"

    with (
        closing(storage({"POSTGRES_URL": url})) as nothing,
        pytest.raises(StorageUnavailable) as error,
    ):
        nothing.get(a_connection().id)

    assert (error.value.reason, error.value.outcome_unknown) == ("PoolTimeout", False)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "POSTGRES_URL must be the URL of a database, such as postgresql://user@host/name."),
        ({"POSTGRES_URL": "mysql://host/name"}, "POSTGRES_URL must be the URL of a database"),
        (
            {"POSTGRES_URL": "postgresql://host/name", "POSTGRES_CONNECTIONS": "0"},
            "POSTGRES_CONNECTIONS must be a whole number from 1.",
        ),
        (
            {"POSTGRES_URL": "postgresql://host/name", "POSTGRES_TIMEOUT": "1"},
            "POSTGRES_TIMEOUT must be a whole number from 2.",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_a_sentence(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        storage(environ)
