"""The tokens of a run: good ones, and forged ones, whose handshakes must be refused."""

from typing import TYPE_CHECKING

from app.adapters.clock import SystemClock
from app.adapters.dynamodb.keys import DynamoDBKeyStore
from app.adapters.dynamodb.sdk import SdkTransport
from app.domain.tokens import KeySet
from tests.builders import Event
from tests.dynamodb_local import create_table
from tests.tokens import AUDIENCE, ISSUER, a_header, signed, some_claims, the_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Tokens:
    """A good token and a forged one; the issuer's key is in a table of its own."""

    def __init__(self, client: "DynamoDBClient") -> None:
        now, key, stranger = SystemClock().now(), the_key("ES256"), the_key("ES256", owner="a stranger")
        claims = some_claims(now, clients="*", accounts="*", regions="*")
        self._good, self._forged = (signed(by, a_header(by), claims) for by in (key, stranger))
        table = create_table(client, "KeysTable")
        DynamoDBKeyStore(SdkTransport(client), table, ISSUER).save(KeySet({key.key_id: key.key()}, now))
        self.environ = {
            "ADMISSION": "token",
            "TOKEN_ISSUER": ISSUER,
            "TOKEN_AUDIENCE": AUDIENCE,
            "TOKEN_ALGORITHM": key.algorithm,
            "KEYS_TABLE": table,
            "CLIENTS_CLAIM": "clients",
            "ACCOUNTS_CLAIM": "accounts",
            "REGIONS_CLAIM": "regions",
        }

    def shown_in(self, event: Event, *, forged: bool) -> Event:
        """Return *event* with a token."""
        token = self._forged if forged else self._good
        event["multiValueHeaders"]["Authorization"] = [f"Bearer {token}"]
        return event

    def is_forged(self, event: Event) -> bool:
        """Return whether the event's token is forged."""
        return f"Bearer {self._forged}" in event.get("multiValueHeaders", {}).get("Authorization", [])
