"""Processes that write to one storage, each through an adapter of its own, as the functions' processes do."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier

import pytest

from app.containers.handshakes import Handshakes
from app.domain.errors import AlreadyClosed
from app.domain.ports import ConnectionStore
from app.settings import Settings

WRITERS = 4

type Call = tuple[str, *tuple[object, ...]]
"""The name of a method of ConnectionStore, and its arguments."""

_SPAWN = get_context("spawn")
_START_WITHIN = 60  # seconds


class Writers:
    """A pool of so many processes."""

    def __init__(self) -> None:
        start = _SPAWN.Barrier(WRITERS)
        self._pool = ProcessPoolExecutor(WRITERS, _SPAWN, initializer=_set_start, initargs=(start,))

    def __call__(self, environ: Mapping[str, str], programs: Sequence[Sequence[Call]]) -> list[list[object]]:
        """Run each program in a process of its own, all at once; return the results of its calls.

        The result of a call that raised AlreadyClosed is that class.
        """
        assert len(programs) == WRITERS
        running = [self._pool.submit(_run_together, dict(environ), program) for program in programs]
        return [process.result() for process in running]

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture(scope="session")
def writers() -> Iterator[Writers]:
    writers = Writers()
    yield writers
    writers.close()


def run_and_end(environ: Mapping[str, str], program: Sequence[Call], *, killed: bool) -> list[object]:
    """Run *program* in a process that then ends, or is *killed* by SIGKILL; return its calls' results."""
    receiver, sender = _SPAWN.Pipe(duplex=False)
    ended_by = signal.SIGKILL if killed else 0
    process = _SPAWN.Process(target=_run_alone, args=(sender, dict(environ), program, ended_by))
    process.start()
    sender.close()
    try:
        results: list[object] = receiver.recv()
    finally:
        process.join()
        receiver.close()
    assert process.exitcode == -ended_by
    return results


# ---- In the writer's process

_start: Barrier


def _set_start(start: Barrier) -> None:
    global _start  # noqa: PLW0603 - a barrier can be given to a process at its start only
    _start = start


def _run_together(environ: Mapping[str, str], program: Sequence[Call]) -> list[object]:
    try:
        store = _store(frozenset(environ.items()))
    finally:  # the others wait, whatever happened here
        _start.wait(_START_WITHIN)
    return _results(store, program)


def _run_alone(results: Pipe, environ: Mapping[str, str], program: Sequence[Call], ended_by: int) -> None:
    results.send(_results(_store(frozenset(environ.items())), program))
    if ended_by:
        os.kill(os.getpid(), ended_by)


@cache
def _store(environ: frozenset[tuple[str, str]]) -> ConnectionStore:
    return Handshakes(settings=Settings.from_environ(dict(environ)), environ=dict(environ)).store()


def _results(store: ConnectionStore, program: Sequence[Call]) -> list[object]:
    return [_result(store, method, arguments) for method, *arguments in program]


def _result(store: ConnectionStore, method: str, arguments: Sequence[object]) -> object:
    try:
        result: object = getattr(store, method)(*arguments)
    except AlreadyClosed:
        return AlreadyClosed
    return result
