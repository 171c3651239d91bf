"""The local API Gateway: whom it holds, and how it is kept from telling who left."""

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
        """Whether the client is connected, by the ``@connections`` API."""
        try:
            self.management.get_connection(ConnectionId=connection_id)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.GONE:
                raise
            return False
        return True

    @contextmanager
    def losing_disconnects(self) -> Iterator[None]:
        """While the block lasts, the API has no route for ``$disconnect``: the function is not told who left.

        AWS loses one now and then. MiniStack loses none: it sees the end of
        every TCP connection, and that of a killed process's too.
        """
        routes = self.apis.get_routes(ApiId=self.api)["Items"]
        [route] = [route for route in routes if route["RouteKey"] == _DISCONNECT]
        self.apis.delete_route(ApiId=self.api, RouteId=route["RouteId"])
        try:
            yield
        finally:
            self.apis.create_route(ApiId=self.api, RouteKey=_DISCONNECT, Target=route["Target"])
