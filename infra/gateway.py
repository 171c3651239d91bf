"""The local API Gateway: whether it has a connection, and how to lose ``$disconnect`` events."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

_DISCONNECT = "$disconnect"


@dataclass(frozen=True, slots=True)
class LocalGateway:
    """One WebSocket API of the emulator.

    ``apis`` and ``management`` are boto3's clients of ``apigatewayv2`` and of
    ``apigatewaymanagementapi``.
    """

    api: str
    apis: Any
    management: Any

    def holds(self, connection_id: str) -> bool:
        """Return whether the client is connected, by the ``@connections`` API."""
        try:
            self.management.get_connection(ConnectionId=connection_id)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.GONE:
                raise
            return False
        return True

    @contextmanager
    def losing_disconnects(self) -> Iterator[None]:
        """Remove the API's ``$disconnect`` route during a block, so that the function gets no event.

        AWS may lose an event. MiniStack loses none: it sees the end of every TCP
        connection, even that of a killed process.
        """
        routes = self.apis.get_routes(ApiId=self.api)["Items"]
        [route] = [route for route in routes if route["RouteKey"] == _DISCONNECT]
        self.apis.delete_route(ApiId=self.api, RouteId=route["RouteId"])
        try:
            yield
        finally:
            self.apis.create_route(ApiId=self.api, RouteKey=_DISCONNECT, Target=route["Target"])
