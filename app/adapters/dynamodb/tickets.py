"""Tickets in DynamoDB, in a table of their own."""

from datetime import datetime
from hashlib import sha256

from app.adapters.dynamodb.items import SECOND, Value, number
from app.adapters.dynamodb.transport import ConditionFailed, Transport
from app.domain.admission import Grant, Reason
from app.domain.errors import Denied, StorageUnavailable
from app.domain.model import AccountId, ClientId, RegionName
from app.domain.tickets import MAX_SKEW, MAX_TICKET_LIFETIME, Ticket


class DynamoDBTickets:
    """Tickets and TicketStore in the DynamoDB *table*, with the partition key ``id`` and the TTL ``ttl``.

    The key is a ticket's SHA-256, so that nobody who reads the table can use one.
    A ticket costs a write unit to add and one to redeem. Expired ones that DynamoDB
    still has are refused, and so are those that are good for too long.
    """

    def __init__(self, transport: Transport, table: str) -> None:
        self._transport = transport
        self._table = table

    def add(self, ticket: Ticket) -> None:
        # up to the second in which it ends, since a TTL has whole seconds
        item = _key(ticket.secret) | {
            "clientId": {"S": ticket.client_id},
            "account": {"S": ticket.account},
            "region": {"S": ticket.region},
            "ttl": number(ticket.expires_at, SECOND),
        }
        self._transport.call("PutItem", {"TableName": self._table, "Item": item})

    def redeem(self, secret: str, at: datetime) -> Grant:
        request = {
            "TableName": self._table,
            "Key": _key(secret),
            "ConditionExpression": "#ttl > :now AND #ttl <= :latest",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {
                ":now": number(at, SECOND),
                ":latest": number(at + MAX_TICKET_LIFETIME + MAX_SKEW, SECOND),
            },
            "ReturnValues": "ALL_OLD",
        }
        try:
            item = self._transport.call("DeleteItem", request).body["Attributes"]
        except ConditionFailed as failure:
            if failure.outcome_unknown:  # an attempt whose answer was lost may have redeemed it
                raise StorageUnavailable("TicketMaybeSpent", outcome_unknown=True) from failure
            raise Denied(Reason.TICKET) from None
        client_id, account, region = (item[name]["S"] for name in ("clientId", "account", "region"))
        return Ticket(secret, ClientId(client_id), AccountId(account), RegionName(region), at).grant()


def _key(secret: str) -> dict[str, Value]:
    return {"id": {"S": sha256(secret.encode(errors="surrogatepass")).hexdigest()}}
