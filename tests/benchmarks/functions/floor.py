"""A handler that does nothing: what a function costs before it does anything."""


def connect(event: object, context: object) -> dict[str, object]:
    return {"statusCode": 200, "body": "connected"}


def disconnect(event: object, context: object) -> dict[str, object]:
    return {"statusCode": 200, "body": "disconnected"}
