"""Instructions counted by valgrind: they depend on no other load, and differ little from run to run."""

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

_CALLS = 20  # in the longer of two runs; their difference over this is one call
_COUNT = re.compile(r"Collected : (\d+)")
_ENDS_WITHIN = 600  # seconds


def can_count() -> bool:
    return shutil.which("valgrind") is not None


def count(subjects: Sequence[Subject], backend: Backend) -> dict[str, dict[str, float]]:
    """Instructions of each subject's cold start, and of a warm ``$connect`` with its ``$disconnect``.

    The floor's tell what the driver itself takes, mostly to make the events.
    """
    runs = [(subject, calls) for calls in (None, Calls(1, 0), Calls(1, _CALLS)) for subject in subjects]
    with ThreadPoolExecutor(max_workers=2) as pool:
        try:
            counts = list(pool.map(lambda run: _counted(run[0], backend, run[1]), runs))
        except BaseException:  # Ctrl-C among them: no further run is begun
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
                process.communicate(conversation(calls), timeout=_ENDS_WITHIN)
            except subprocess.TimeoutExpired as error:
                raise SubjectFailed(f"{subject.name} under valgrind took over {_ENDS_WITHIN} s") from error
            finally:
                process.kill()
        found = _COUNT.search(counts.read_text())
        if process.returncode or not found:
            raise SubjectFailed(f"{subject.name} under valgrind ended with {process.returncode}")
        return int(found[1])
