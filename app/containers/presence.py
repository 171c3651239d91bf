"""The container of the function that publishes presence."""

from dependency_injector import providers

from app.adapters.dynamodb.presence import presence_from
from app.containers.publishing import Publishing
from app.domain import ports
from app.domain.tracking import PublishPresence


class PresenceEvents(Publishing):
    """What the function needs, each built once."""

    read_presence: providers.Provider[ports.PresenceReader] = providers.Object(presence_from)
    publish_presence = providers.Singleton(PublishPresence, Publishing.event_publisher)
