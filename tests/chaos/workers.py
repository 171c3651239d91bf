"""The worker processes: each handles one event at a time; one that is killed is replaced."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.builders import Event
from tests.chaos.truth import Status

_CHECKOUT = Path(__file__).parent.parent.parent


class WorkerEnded(Exception):
    """A worker ended without having been killed."""


@dataclass(frozen=True, slots=True)
class _Call:
    event: Event
    killed_after: float | None
    answer: asyncio.Future[Status]


class Workers:
    """Hands each call to the first free worker, and counts the workers that were killed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.killed = 0
        self._environ = environ
        self._calls: asyncio.Queue[_Call] = asyncio.Queue()

    async def call(self, event: Event, killed_after: float | None = None) -> Status:
        """Return the answer's status; ``None`` if the worker was killed, *killed_after* that many seconds."""
        answer: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._calls.put_nowait(_Call(event, killed_after, answer))
        return await answer

    async def work(self) -> None:
        """Run one worker after the other until cancelled."""
        while True:
            worker = await self._started()
            assert worker.stdout
            try:
                await worker.stdout.readline()  # ready
                while await self._survives(await self._calls.get(), worker):
                    pass
            finally:
                if worker.returncode is None:
                    worker.kill()
                await worker.wait()

    async def _survives(self, call: _Call, worker: Process) -> bool:
        assert worker.stdin
        assert worker.stdout
        killing = asyncio.Event()

        def kill() -> None:
            killing.set()
            worker.kill()

        worker.stdin.write(json.dumps(call.event).encode() + b"\n")
        timer = None
        if call.killed_after is not None:
            timer = asyncio.get_running_loop().call_later(call.killed_after, kill)
        line = await worker.stdout.readline()
        if timer is not None:
            timer.cancel()
        if not line and not killing.is_set():
            raise WorkerEnded(f"exit code {await worker.wait()}, at {call.event['requestContext']}")
        self.killed += killing.is_set()
        call.answer.set_result(int(line) if line else None)
        return not killing.is_set()

    async def _started(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.chaos.worker"),
            cwd=_CHECKOUT,
            env=os.environ | self._environ,
            stdin=PIPE,  # closes when this process ends, and ends the worker
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C is for us to handle
        )


@asynccontextmanager
async def running_workers(number: int, environ: Mapping[str, str]) -> AsyncIterator[Workers]:
    """Run so many workers with *environ* until the block ends."""
    workers = Workers(environ)
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(workers.work()) for _ in range(number)]
        yield workers
        for task in working:
            task.cancel()
