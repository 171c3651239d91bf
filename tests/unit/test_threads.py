"""The worker pool, and the rate limit on a clock of its own."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from threading import Barrier, Event, Lock, get_ident

import pytest

from app.adapters.threads import SteadyRate, ThreadWorkers

WITHIN = 10
"""Seconds after which a test gives up, rather than wait for ever."""


def test_a_pool_returns_the_result_of_every_task() -> None:
    results = ThreadWorkers(4).run(partial(int, number) for number in range(100))

    assert sorted(results) == list(range(100))


def test_a_pool_without_tasks_has_no_results() -> None:
    assert list(ThreadWorkers(4).run(())) == []


def test_results_come_as_they_are_done_and_not_in_the_order_of_the_tasks() -> None:
    release = Event()

    def slow() -> str:
        release.wait(WITHIN)
        return "slow"

    results = ThreadWorkers(2).run([slow, lambda: "quick"])

    assert next(results) == "quick"
    release.set()
    assert list(results) == ["slow"]


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

    results = list(ThreadWorkers(4).run([meet] * 40))

    assert len(results) == 40
    assert most == 4


def test_the_next_task_is_read_only_when_a_worker_is_free() -> None:
    both_run, release = Barrier(2, timeout=WITHIN), Event()
    read: list[str] = []

    def first() -> str:
        both_run.wait()
        return "first"

    def second() -> str:
        both_run.wait()
        release.wait(WITHIN)
        return "second"

    def tasks() -> Iterator[Callable[[], str]]:
        for name, task in (("first", first), ("second", second), ("third", lambda: "third")):
            read.append(name)
            yield task

    results = ThreadWorkers(2).run(tasks())

    assert next(results) == "first"
    assert read == ["first", "second"]
    release.set()
    assert sorted(results) == ["second", "third"]


def test_the_callers_thread_reads_the_tasks_and_the_workers_threads_run_them() -> None:
    readers: set[int] = set()

    def tasks() -> Iterator[Callable[[], int]]:
        for _ in range(10):
            readers.add(get_ident())
            yield get_ident

    runners = set(ThreadWorkers(2).run(tasks()))

    assert readers == {get_ident()}
    assert get_ident() not in runners


def test_no_task_is_read_after_the_first_exception() -> None:
    read: list[str] = []

    def failing() -> None:
        raise TypeError("a bug")

    def tasks() -> Iterator[Callable[[], None]]:
        for name in ("failing", "never read"):
            read.append(name)
            yield failing

    with pytest.raises(TypeError, match="a bug"):
        list(ThreadWorkers(1).run(tasks()))
    assert read == ["failing"]


def test_few_tasks_are_read_once_a_task_has_failed() -> None:
    read: list[int] = []

    def failing() -> None:
        raise TypeError("a bug")

    def endless() -> Iterator[Callable[[], None]]:
        for number in itertools.count():
            read.append(number)
            yield failing

    with pytest.raises(TypeError, match="a bug"):
        list(ThreadWorkers(4).run(endless()))
    assert len(read) <= 4


def test_the_first_exception_is_raised_once_the_tasks_under_way_have_ended() -> None:
    both_run, raised = Barrier(2, timeout=WITHIN), Event()
    ended: list[str] = []

    def failing() -> None:
        both_run.wait()
        raised.set()
        raise TypeError("a bug")

    def under_way() -> None:
        both_run.wait()
        raised.wait(WITHIN)
        ended.append("under way")

    with pytest.raises(TypeError, match="a bug"):
        list(ThreadWorkers(2).run([failing, under_way]))
    assert ended == ["under way"]


def test_an_exception_of_the_reading_is_raised_once_the_tasks_under_way_have_ended() -> None:
    reading_failed = Event()
    ended: list[str] = []

    def under_way() -> None:
        reading_failed.wait(WITHIN)
        ended.append("under way")

    def tasks() -> Iterator[Callable[[], None]]:
        yield under_way
        reading_failed.set()
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        list(ThreadWorkers(2).run(tasks()))
    assert ended == ["under way"]


def test_a_pool_can_be_used_again_after_an_exception() -> None:
    workers = ThreadWorkers(2)

    def failing() -> int:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        list(workers.run([failing]))
    assert list(workers.run([lambda: 1])) == [1]


class Watch:
    """A clock that advances only during a sleep, or when it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_calls_are_evenly_spaced_from_the_first_on() -> None:
    watch = Watch()
    rate = SteadyRate(4, now=watch, sleep=watch.sleep)

    times = []
    for _ in range(5):
        rate.wait()
        times.append(watch.now)

    assert times == [100.0, 100.25, 100.5, 100.75, 101.0]


def test_a_late_call_does_not_wait_and_unused_calls_are_not_saved_up() -> None:
    watch = Watch()
    rate = SteadyRate(4, now=watch, sleep=watch.sleep)
    rate.wait()
    watch.now = 105.1

    times = []
    for _ in range(3):
        rate.wait()
        times.append(watch.now)

    assert times == [105.1, 105.35, 105.6]


def test_a_sleep_that_takes_too_long_does_not_delay_the_calls_after_it() -> None:
    watch = Watch()
    rate = SteadyRate(4, now=watch, sleep=lambda seconds: watch.sleep(seconds + 0.0625))

    times = []
    for _ in range(4):
        rate.wait()
        times.append(watch.now)

    assert times == [100.0, 100.3125, 100.5625, 100.8125]
