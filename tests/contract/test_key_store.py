"""What every KeyStore promises, in the same sentences for each; then the item of DynamoDB's."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from app.adapters.dynamodb.keys import DynamoDBKeyStore
from app.adapters.dynamodb.sdk import SdkTransport
from app.domain.errors import StorageUnavailable
from app.domain.ports import KeyStore
from app.domain.tokens import KeySet
from tests.builders import NOON, NOON_MS
from tests.dynamodb_local import a_client
from tests.fakes import FakeKeyStore
from tests.integration.faulty_database import faulty_database, hanging_up
from tests.stores import a_direct_transport, moto_client
from tests.template import table_properties
from tests.thoroughness import examples

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from app.adapters.dynamodb.transport import Transport

ISSUER, OTHER = "https://issuer.example.com/", "https://issuer.example.com/other"
KEYS = {"k-1": {"kty": "RSA", "n": "modulus", "e": "AQAB"}}
OTHER_KEYS = {"k-2": {"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}}

texts = st.text(st.characters(codec=None), max_size=40)  # with lone surrogates, as JSON may have them
key_sets = st.builds(
    KeySet,
    keys=st.dictionaries(texts, st.dictionaries(texts, texts, max_size=4), max_size=5),
    fetched_at=st.integers(0, NOON_MS - 1).map(lambda ms: NOON - timedelta(milliseconds=ms)),
)

type StoreOf = Callable[[str], KeyStore]
"""Returns the store of an issuer; all are in the same table."""


@pytest.fixture(params=["fake", "dynamodb-boto3-moto", "dynamodb-boto3", "dynamodb"])
def store_of(request: pytest.FixtureRequest) -> Iterator[StoreOf]:
    match request.param:
        case "fake":
            yield lambda _: FakeKeyStore()
        case "dynamodb-boto3-moto":
            with mock_aws():
                yield in_a_new_table(moto_client(), SdkTransport(moto_client()))
        case "dynamodb-boto3":
            client = request.getfixturevalue("dynamodb")
            yield in_a_new_table(client, SdkTransport(client))
        case _:
            with closing(a_direct_transport(request.getfixturevalue("dynamodb_local"))) as direct:
                yield in_a_new_table(request.getfixturevalue("dynamodb"), direct)


@pytest.fixture
def store(store_of: StoreOf) -> KeyStore:
    return store_of(ISSUER)


def in_a_new_table(client: "DynamoDBClient", transport: "Transport") -> StoreOf:
    return partial(DynamoDBKeyStore, transport, a_table(client))


def a_table(client: "DynamoDBClient") -> str:
    name = f"Keys-{uuid4().hex}"
    client.create_table(**table_properties("KeysTable") | {"TableName": name})
    return name


def test_without_keys_there_are_none_yet(store: KeyStore) -> None:
    assert store.load() is None


def test_keys_are_loaded_as_they_were_saved(store: KeyStore) -> None:
    issued = KeySet(KEYS, NOON + timedelta(milliseconds=7))

    store.save(issued)

    assert store.load() == issued
    assert store.load() == issued


@pytest.mark.parametrize("later", [timedelta(0), timedelta(milliseconds=1), timedelta(days=365)])
def test_keys_take_the_place_of_those_that_were_not_fetched_later(store: KeyStore, later: timedelta) -> None:
    store.save(KeySet(KEYS, NOON))

    store.save(KeySet(OTHER_KEYS, NOON + later))

    assert store.load() == KeySet(OTHER_KEYS, NOON + later)


def test_later_keys_stay_when_earlier_ones_are_saved_afterwards(store: KeyStore) -> None:
    later = KeySet(KEYS, NOON)
    store.save(later)

    store.save(KeySet(OTHER_KEYS, NOON - timedelta(milliseconds=1)))

    assert store.load() == later


def test_another_issuers_keys_are_apart(store_of: StoreOf) -> None:
    one, other = store_of(ISSUER), store_of(OTHER)
    one.save(KeySet(KEYS, NOON))

    assert other.load() is None

    other.save(KeySet(OTHER_KEYS, NOON - timedelta(hours=1)))

    assert one.load() == KeySet(KEYS, NOON)
    assert other.load() == KeySet(OTHER_KEYS, NOON - timedelta(hours=1))


def test_any_keys_come_back(store_of: StoreOf) -> None:
    @settings(max_examples=examples(50), suppress_health_check=list(HealthCheck))
    @given(issued=key_sets)
    def check(issued: KeySet) -> None:
        store = store_of(f"{ISSUER}{uuid4()}")
        store.save(issued)

        assert store.load() == issued

    check()


def test_the_largest_keys_fit_into_an_item(store: KeyStore) -> None:
    """100 keys of 8192 bits, with certificates' names as ids."""
    keys = {f"{number:064}": {"kty": "RSA", "n": "n" * 1366, "e": "AQAB"} for number in range(100)}

    store.save(KeySet(keys, NOON))

    assert store.load() == KeySet(keys, NOON)


@pytest.fixture(params=["fake", "dynamodb-boto3", "dynamodb"])
def unreachable_store(request: pytest.FixtureRequest) -> Iterator[KeyStore]:
    """A store whose database takes requests and answers nothing."""
    if request.param == "fake":
        store = FakeKeyStore()
        store.error = StorageUnavailable("NoAnswer", outcome_unknown=True)
        yield store
        return
    with faulty_database(hanging_up) as database:
        if request.param == "dynamodb":
            with closing(a_direct_transport(database.endpoint)) as direct:
                yield DynamoDBKeyStore(direct, "Keys", ISSUER)
        else:
            with closing(a_client(database.endpoint)) as client:
                yield DynamoDBKeyStore(SdkTransport(client), "Keys", ISSUER)


def test_without_an_answer_the_store_is_unavailable(unreachable_store: KeyStore) -> None:
    with pytest.raises(StorageUnavailable):
        unreachable_store.load()
    with pytest.raises(StorageUnavailable) as saving:
        unreachable_store.save(KeySet(KEYS, NOON))
    assert saving.value.outcome_unknown


def test_the_fake_counts_its_reads() -> None:
    store = FakeKeyStore()
    store.save(KeySet(KEYS, NOON))
    store.load()
    store.load()

    assert store.reads == 2


def test_the_item_has_the_keys_as_json_and_the_time_in_milliseconds(dynamodb: "DynamoDBClient") -> None:
    name = a_table(dynamodb)
    DynamoDBKeyStore(SdkTransport(dynamodb), name, ISSUER).save(KeySet(KEYS, NOON))

    [item] = dynamodb.scan(TableName=name)["Items"]

    assert json.loads(item.pop("keys")["S"]) == KEYS
    assert item == {"issuer": {"S": ISSUER}, "fetchedAt": {"N": str(NOON_MS)}}
