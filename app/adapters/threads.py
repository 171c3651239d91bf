"""Threads: a bounded worker pool, and a rate limit that they share."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock


class ThreadWorkers:
    """WorkerPool of *size* threads, which live as long as a run.

    One thread reads the tasks. That bounds memory, too: the allocator keeps
    each thread's peak, and a page of the table is large.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def run[T](self, tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
        done: SimpleQueue[Future[T]] = SimpleQueue()
        running = 0
        with ThreadPoolExecutor(self._size, thread_name_prefix="worker") as pool:
            for task in tasks:
                pool.submit(task).add_done_callback(done.put)
                running += 1
                while running == self._size or (running and not done.empty()):
                    yield done.get().result()
                    running -= 1
            while running:
                yield done.get().result()
                running -= 1


class SteadyRate:
    """RateLimiter that allows *rate* calls per second, evenly spaced. Unused calls are not saved up."""

    def __init__(
        self,
        rate: int,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / rate
        self._now = now
        self._sleep = sleep
        self._lock = Lock()
        self._next = now()

    def wait(self) -> None:
        with self._lock:
            now = self._now()
            turn = max(self._next, now)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)
