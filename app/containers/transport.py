"""How the handshakes reach DynamoDB: a part of their container."""

import os
from typing import Any, ClassVar

from dependency_injector import containers, providers

from app.adapters.dynamodb.direct import direct_transport
from app.containers.imports import Imported, no_transport
from app.settings import Settings, required


class SharedTransport(containers.DeclarativeContainer):
    """The transport that the store, the keys and the tickets share, built once.

    On SnapStart it is restored with the function, and has other credentials.
    """

    settings = providers.Dependency(instance_of=Settings)
    environ = providers.Object(os).provided.environ  # of the module, since compile.py needs its name
    connecting: ClassVar[dict[str, Any]] = {
        "region": providers.Callable(required, settings.provided.region, "AWS_REGION"),
        "endpoint": settings.provided.dynamodb_endpoint,
        "connect_timeout": settings.provided.store_timeouts.connect,
        "read_timeout": settings.provided.store_timeouts.read,
        "attempts": settings.provided.store_timeouts.attempts,
    }
    # boto3 doubles a cold start, so it is imported only when STORE chooses it
    client = providers.Singleton(Imported("app.adapters.dynamodb.sdk:dynamodb_client"), **connecting)
    # it imports a library of Lambda's runtime, which is nowhere else
    restorable = Imported("app.containers.snapstart:restorable")
    from_endpoint = Imported("app.adapters.dynamodb.direct.container_credentials:ContainerCredentials")
    direct = providers.Selector(
        settings.provided.start,
        plain=providers.Singleton(direct_transport, **connecting),
        snapshot=providers.Singleton(
            restorable,
            providers.Singleton(
                direct_transport,
                **connecting,
                credentials=providers.Singleton(restorable, providers.Singleton(from_endpoint, environ)),
            ),
        ),
    )
    transport = providers.Selector(
        settings.provided.transport,
        direct=direct,
        boto3=providers.Singleton(Imported("app.adapters.dynamodb.sdk:SdkTransport"), client=client),
        none=providers.Singleton(no_transport),
    )
