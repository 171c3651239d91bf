"""Instruction counts by valgrind: independent of other load, and almost the same in every run."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import batched
from pathlib import Path

from tests.benchmarks.measure import DRIVER, Calls, SubjectFailed, conversation, start
from tests.benchmarks.subjects import Backend, Subject

_CALLS = 20  # more in the second run than in the first; the difference is divided by it
_COUNT = re.compile(r"Collected : (\d+)")
_TIMEOUT = 600  # seconds


def can_count() -> bool:
    return shutil.which("valgrind") is not None


def count(subjects: Sequence[Subject], backend: Backend) -> dict[str, dict[str, float]]:
    """Return the instructions of each subject's cold start, and of a warm ``$connect`` and ``$disconnect``.

    The floor's count is that of the driver itself, mostly to make the events.
    """
    runs = [(subject, calls) for calls in (None, Calls(1, 0), Calls(1, _CALLS)) for subject in subjects]
    with ThreadPoolExecutor(max_workers=2) as pool:
        try:
            counts = list(pool.map(lambda run: _counted(run[0], backend, run[1]), runs))
        except BaseException:  # also Ctrl-C: no further run is begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    cold, short, long = batched(counts, len(subjects), strict=True)
    return {
        subject.name: {"cold start": of_cold, "both calls, warm": (of_long - of_short) / _CALLS}
        for subject, of_cold, of_short, of_long in zip(subjects, cold, short, long, strict=True)
    }


def _counted(subject: Subject, backend: Backend, calls: Calls | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "callgrind.log"
        prefix = [
            "env",
            "PYTHONHASHSEED=0",  # the same instructions each time
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/callgrind.out",
            f"--log-file={counts}",
            *DRIVER,
        ]
        with (
            tempfile.TemporaryFile() as log,
            tempfile.TemporaryFile() as errors,
            start(subject, backend, log.fileno(), errors.fileno(), prefix) as process,
        ):
            try:
                process.communicate(conversation(subject, calls), timeout=_TIMEOUT)
            except subprocess.TimeoutExpired as error:
                raise SubjectFailed(f"{subject.name} under valgrind took over {_TIMEOUT} s") from error
            finally:
                process.kill()
        found = _COUNT.search(counts.read_text())
        if process.returncode or not found:
            raise SubjectFailed(f"{subject.name} under valgrind ended with {process.returncode}")
        return int(found[1])
