"""The specification's function with plain boto3: the baseline of the comparison."""

# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: ANN001, ANN201 - untyped, as in the specification

import os
import time

import boto3

table = boto3.resource("dynamodb").Table(os.environ["CONNECTIONS_TABLE"])
ttl_hours = int(os.environ.get("TTL_HOURS", "24"))


def connect(event, context):
    params = event.get("queryStringParameters") or {}
    now = time.time()
    table.put_item(
        Item={
            "connectionId": event["requestContext"]["connectionId"],
            "createdAt": int(now * 1000),
            "ttl": int(now) + ttl_hours * 3600,
            "clientId": params.get("clientId", "unknown"),
            "account": params.get("account", ""),
            "region": params.get("region", ""),
            "sourceIp": source_ip(event),
        }
    )
    return {"statusCode": 200, "body": "connected"}


def disconnect(event, context):
    table.delete_item(Key={"connectionId": event["requestContext"]["connectionId"]})
    return {"statusCode": 200, "body": "disconnected"}


def source_ip(event):
    address = event["requestContext"].get("identity", {}).get("sourceIp")
    if address:
        return address
    for name, value in (event.get("headers") or {}).items():
        if name.lower() == "x-forwarded-for":
            return value.split(",")[0].strip()
    return ""
