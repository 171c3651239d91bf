"""The worker pool."""

from threading import Barrier, Event, Lock, get_ident

import pytest

from app.adapters.threads import ThreadWorkers

WITHIN = 10
"""Seconds after which a test gives up, rather than wait for ever."""


def test_a_task_runs_in_a_thread_of_the_pool() -> None:
    assert ThreadWorkers(1).start(get_ident).result() != get_ident()


def test_a_result_is_there_once_its_task_is_done() -> None:
    release = Event()

    def task() -> str:
        release.wait(WITHIN)
        return "done"

    pending = ThreadWorkers(1).start(task)

    assert not pending.done()
    release.set()
    assert pending.result() == "done"
    assert pending.done()


def test_the_exception_of_a_task_is_raised_where_its_result_is_asked_for() -> None:
    def failing() -> None:
        raise TypeError("a bug")

    pending = ThreadWorkers(1).start(failing)

    with pytest.raises(TypeError, match="a bug"):
        pending.result()


def test_as_many_tasks_as_the_pools_size_run_at_once_and_never_more() -> None:
    together = Barrier(4, timeout=WITHIN)  # passes only if four run at the same time
    lock, running, most = Lock(), 0, 0

    def meet() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1

    workers = ThreadWorkers(4)
    for pending in [workers.start(meet) for _ in range(40)]:
        pending.result()

    assert most == 4
