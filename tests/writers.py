"""Processes that write to one storage, each through an adapter of its own, as the functions' processes do."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier
from traceback import format_exc
from typing import get_protocol_members

import pytest

from app.containers.handshakes import Handshakes
from app.containers.operations import Operations
from app.domain.errors import AlreadyClosed
from app.domain.ports import ConnectionStore, ConnectionTable
from app.settings import Settings

WRITERS = 4

type Call = tuple[str, *tuple[object, ...]]
"""The name of a method of ConnectionStore or ConnectionTable, and its arguments."""

_SPAWN = get_context("spawn")
_WAIT = 60  # seconds, for a process to start, or for a call of another one


class Writers:
    """A pool of so many processes."""

    def __init__(self) -> None:
        barrier = _SPAWN.Barrier(WRITERS)
        self._pool = ProcessPoolExecutor(WRITERS, _SPAWN, initializer=_set_barrier, initargs=(barrier,))

    def __call__(self, environ: Mapping[str, str], programs: Sequence[Sequence[Call]]) -> list[list[object]]:
        """Run each program in a process of its own; all make their first call at once, and so on.

        Return the results of the calls; that of one that raised AlreadyClosed is the class.
        """
        assert len(programs) == WRITERS
        assert len({len(program) for program in programs}) == 1
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

_barrier: Barrier


def _set_barrier(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - a barrier can be given to a process at its start only
    _barrier = barrier


def _run_together(environ: Mapping[str, str], program: Sequence[Call]) -> list[object]:
    results: list[object] = []
    failures = []
    for call in program:
        _barrier.wait(_WAIT)
        try:
            results.append(_result(environ, *call))
        except Exception:  # noqa: BLE001 - the others wait at the barrier, whatever it is
            failures.append(format_exc())
    if failures:
        raise RuntimeError(failures[0])  # as text: not every exception can be sent to another process
    return results


def _run_alone(results: Pipe, environ: Mapping[str, str], program: Sequence[Call], ended_by: int) -> None:
    results.send([_result(environ, *call) for call in program])
    if ended_by:
        os.kill(os.getpid(), ended_by)


def _result(environ: Mapping[str, str], method: str, *arguments: object) -> object:
    port = _table if method in get_protocol_members(ConnectionTable) else _store
    try:
        result: object = getattr(port(frozenset(environ.items())), method)(*arguments)
    except AlreadyClosed:
        return AlreadyClosed
    return result


@cache
def _store(environ: frozenset[tuple[str, str]]) -> ConnectionStore:
    return Handshakes(settings=Settings.from_environ(dict(environ)), environ=dict(environ)).store()


@cache
def _table(environ: frozenset[tuple[str, str]]) -> ConnectionTable:
    return Operations(settings=Settings.from_environ(dict(environ)), environ=dict(environ)).table()
