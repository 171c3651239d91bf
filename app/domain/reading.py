"""Reading ahead, so that nobody waits for a page of the table."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import partial

from app.domain.errors import StorageUnavailable
from app.domain.ports import WorkerPool


def read_ahead[T](items: Iterator[T], workers: WorkerPool) -> Generator[T | None]:
    """Yield *items*, while a worker reads the next one; ``None`` as long as it is not there yet.

    Closing it waits for the worker.
    """
    pending = workers.start(partial(next, items, None))
    try:
        while True:
            if not pending.done():
                yield None
                continue
            item = pending.result()
            if item is None:
                return
            pending = workers.start(partial(next, items, None))
            yield item
    except GeneratorExit:
        with suppress(StorageUnavailable):
            pending.result()
        raise
