"""A handler that does nothing: the cost of a function without its own code."""


def connect(event: object, context: object) -> dict[str, object]:
    return {"statusCode": 200, "body": "connected"}


def disconnect(event: object, context: object) -> dict[str, object]:
    return {"statusCode": 200, "body": "disconnected"}
