"""A bounded pool of threads."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class ThreadWorkers:
    """WorkerPool of up to *size* threads, which start as they are needed."""

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="worker")

    def start[T](self, task: Callable[[], T]) -> Future[T]:
        return self._pool.submit(task)
