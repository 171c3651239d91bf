"""The container of the function that follows the table's stream."""

from dependency_injector import providers

from app.adapters.dynamodb.items import entry_from
from app.adapters.dynamodb.presence import DynamoDBPresenceStore
from app.adapters.memory import MemoryPresenceStore
from app.containers.imports import no_stream
from app.containers.operations import Operations
from app.domain import ports
from app.domain.sessions import Sessions
from app.domain.tracking import TrackPresence
from app.settings import required


class Stream(Operations):
    """What follows from a change of the table needs besides, each built once."""

    settings, clock = Operations.settings, Operations.clock
    presence: providers.Provider[ports.PresenceStore] = providers.Selector(
        settings.provided.storage,
        dynamodb=providers.Singleton(
            DynamoDBPresenceStore,
            Operations.transport,
            providers.Callable(required, settings.provided.presence_table, "PRESENCE_TABLE"),
            clock=clock,
        ),
        memory=providers.Singleton(MemoryPresenceStore),
        imported=providers.Callable(no_stream, settings.provided.store),
    )
    catch_ups: providers.Provider[ports.CatchUps | None] = providers.Selector(
        settings.provided.catch_ups, queue=Operations.queued_catch_ups, none=providers.Object(None)
    )
    read_image: providers.Provider[ports.ImageReader] = providers.Object(entry_from)
    sessions = providers.Singleton(Sessions, presence, clock)
    track_presence = providers.Singleton(
        TrackPresence,
        Operations.table,
        sessions,
        Operations.event_publisher,
        Operations.evict_connection,
        clock,
        Operations.workers,
        settings.provided.connections_per_client,
        catch_ups,
    )
