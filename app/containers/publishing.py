"""Where domain events go: a part of the containers of the operations."""

from typing import Any, ClassVar

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.containers.imports import Imported
from app.domain import ports
from app.settings import Settings, required


class Publishing(containers.DeclarativeContainer):
    """What publishes domain events, each built once."""

    settings = providers.Dependency(instance_of=Settings)
    clock: providers.Provider[ports.Clock] = providers.Singleton(SystemClock)
    publisher: providers.Provider[ports.EventPublisher] = providers.Dependency()
    table_name = providers.Callable(required, settings.provided.table, "CONNECTIONS_TABLE")
    calling: ClassVar[dict[str, Any]] = {
        "region": providers.Callable(required, settings.provided.region, "AWS_REGION"),
        "connect_timeout": settings.provided.store_timeouts.connect,
        "read_timeout": settings.provided.store_timeouts.read,
        "attempts": settings.provided.store_timeouts.attempts,
    }
    event_publisher: providers.Provider[ports.EventPublisher] = providers.Selector(
        settings.provided.events,
        bus=providers.Singleton(
            # boto3 takes longer to import than all the rest, and only a bus needs it
            Imported("app.adapters.eventbridge:EventBridgePublisher"),
            publisher,
            bus=settings.provided.presence_bus,
            table=table_name,
            **calling,
        ),
        none=publisher,
    )
