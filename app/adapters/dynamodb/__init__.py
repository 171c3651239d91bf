"""Connections in a DynamoDB table, and who is present in another, through boto3's low-level client."""

from app.adapters.dynamodb.client import dynamodb_client
from app.adapters.dynamodb.entries import entry_in
from app.adapters.dynamodb.presence import DynamoDBPresenceStore
from app.adapters.dynamodb.registry import DynamoDBConnectionRegistry
from app.adapters.dynamodb.store import DynamoDBConnectionStore

__all__ = [
    "DynamoDBConnectionRegistry",
    "DynamoDBConnectionStore",
    "DynamoDBPresenceStore",
    "dynamodb_client",
    "entry_in",
]
