"""The container of the function that delivers to clients that come back what they missed."""

from dependency_injector import providers

from app.adapters.messages import JsonNotices
from app.adapters.sqs import catch_up_from
from app.containers.sending import Sending
from app.domain import ports
from app.domain.catching_up import CATCH_UP_RATE, CatchUpClient
from app.domain.pace import Pace


class CatchingUp(Sending):
    """What sending needs, and what looks into the history; each built once."""

    settings, clock, table, workers = Sending.settings, Sending.clock, Sending.table, Sending.workers
    read_catch_up: providers.Provider[ports.CatchUpReader] = providers.Object(catch_up_from)
    catch_up_client = providers.Singleton(
        CatchUpClient,
        table,
        Sending.deliveries,
        Sending.kept_history,
        Sending.courier,
        providers.Singleton(JsonNotices),
        Sending.queued_catch_ups,
        clock,
        providers.Singleton(Pace, CATCH_UP_RATE),
        settings.provided.history_kept_for,
        settings.provided.index_lag,
        Sending.grace,
        Sending.unscoped,
    )
