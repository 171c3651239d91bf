"""Simulated time, in which threads take turns: the same seed gives the same run, to the millisecond."""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from tests.builders import NOON

type Job = Callable[[], object]

_MILLISECONDS = 1000


class TurnsEnded(BaseException):
    """Raised in a job that sleeps when the run is stopped."""


class Turns:
    """Runs jobs, each in one of so many *threads*, and events between them.

    One of them runs at a time, until it sleeps or ends; then what is due first
    continues. Time passes only while all sleep. So a state that jobs share needs no
    lock, and a run of half an hour takes as long as its calls. Whoever sleeps runs
    the events that are due, so an event must not sleep itself.
    """

    def __init__(self, threads: int, limit: timedelta) -> None:
        self.now = 0.0
        """Simulated seconds since the beginning."""
        self._due: list[tuple[float, int, Job | _Thread]] = []
        self._numbers = count()
        self._threads = [_Thread() for _ in range(threads)]
        self._idle = list(self._threads)
        self._local = threading.local()
        self._backlog: deque[Job] = deque()
        self._over = threading.Semaphore(0)
        self._ends = False
        self._fault: BaseException | None = None
        self._limit = limit
        self._deadline = time.monotonic() + limit.total_seconds()

    def time(self) -> datetime:
        """Return the simulated time, in whole milliseconds."""
        return NOON + timedelta(milliseconds=int(self.now * _MILLISECONDS))

    def after(self, seconds: float, event: Job) -> None:
        """Run *event* after so many seconds; at once if there are less than none."""
        heappush(self._due, (self.now + max(seconds, 0), next(self._numbers), event))

    def start(self, job: Job) -> None:
        """Run *job* as soon as a thread is free."""
        if self._idle:
            thread = self._idle.pop()
            thread.job = job
            heappush(self._due, (self.now, next(self._numbers), thread))
        else:
            self._backlog.append(job)

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds, like ``after``; for jobs."""
        if self._ends:
            raise TurnsEnded
        until = self.now + max(seconds, 0)
        if (not self._due or until < self._due[0][0]) and time.monotonic() < self._deadline:
            self.now = until  # nothing else is due before
            return
        thread: _Thread = self._local.thread
        heappush(self._due, (until, next(self._numbers), thread))
        self._yield(thread)
        if self._ends:
            raise TurnsEnded

    def run(self) -> None:
        """Run until no job is left and no event is to come.

        Raises:
            TimeoutError: the limit is exceeded.
        """
        for thread in self._threads:
            thread.start(self._work)
        try:
            self._yield(None)
        finally:
            self._ends = True
            for thread in self._threads:
                thread.end()
        if self._fault is not None:
            raise self._fault

    def _work(self, thread: "_Thread") -> None:
        self._local.thread = thread
        thread.turn.acquire()
        while not self._ends:
            try:
                thread.job()
            except TurnsEnded:
                return
            except BaseException as fault:  # noqa: BLE001 - raised by run()
                self._fail(fault)
                return
            if self._backlog:
                thread.job = self._backlog.popleft()
            else:
                self._idle.append(thread)
                self._yield(thread)

    def _yield(self, me: "_Thread | None") -> None:
        """Let the others run until it is the turn of *me*; the main thread's is at the end."""
        try:
            following = self._following()
        except BaseException as fault:  # noqa: BLE001 - raised by run()
            self._fail(fault)
        else:
            if following is me:
                return
            (following.turn if following else self._over).release()
        (me.turn if me else self._over).acquire()

    def _following(self) -> "_Thread | None":
        """Run the events that are due, and return whose turn it is; ``None`` at the end."""
        while self._due:
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"not done within {self._limit}")
            self.now, _, due = heappop(self._due)
            if isinstance(due, _Thread):
                return due
            due()
        return None

    def _fail(self, fault: BaseException) -> None:
        self._fault = self._fault or fault
        self._ends = True
        self._over.release()


class _Thread:
    """A thread, what it runs, and its turn."""

    def __init__(self) -> None:
        self.turn = threading.Semaphore(0)
        self.job: Job = _nothing
        self.native: threading.Thread | None = None

    def start(self, work: "Callable[[_Thread], None]") -> None:
        self.native = threading.Thread(target=work, args=[self], name="turns", daemon=True)
        self.native.start()

    def end(self) -> None:
        assert self.native
        self.turn.release()
        self.native.join()


def _nothing() -> None:
    """Do nothing."""
