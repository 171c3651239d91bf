"""A function on SnapStart as Lambda's runtime runs it, with copies of its process in place of restores.

    python tests/snapshots.py HANDLER [FOLDER]

It loads the handler, runs the hooks before a snapshot and prints a line. Then each
line on its standard input is a restore, a list of events: a copy of the process
runs the hooks after a restore and answers them. The line that it prints has the
answers and what the copy looks like; times are pairs of wall and CPU. With FOLDER,
the handshakes run the compiled form of their container, which is there. Log records
go to the standard error.

A copy has the same process id, as after a real restore, where the system allows
that (Linux: pid_namespaces(7)): libraries notice a fork by a changed id.
"""

import json
import os
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

from awslambdaric import bootstrap, lambda_runtime_hooks_runner

_RUNTIMES = set(sys.modules)
_CREDENTIALS = "app.adapters.dynamodb.direct.container_credentials"


def main(handler_name: str, folder: str | None = None) -> None:
    same_id = enter_process_namespace()
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bootstrap._setup_logging(
        bootstrap._AWS_LAMBDA_LOG_FORMAT,
        bootstrap._AWS_LAMBDA_LOG_LEVEL,
        bootstrap.StandardLogSink(),
    )
    if folder is not None:
        import app.containers  # noqa: PLC0415 - what is imported is looked at

        app.containers.__path__.append(folder)
    handler = bootstrap._get_handler(handler_name)
    if credentials := sys.modules.get(_CREDENTIALS):
        vars(credentials)["TIMEOUT"] = 20.0  # a thread of the test answers, on a busy machine
    ssl.RAND_bytes(1)  # starts OpenSSL's generator, as a connection by TLS does
    lambda_runtime_hooks_runner.run_before_snapshot()
    print(json.dumps({"sameId": same_id}), file=output, flush=True)
    for line in sys.stdin:
        if seen := in_a_copy(handler, json.loads(line), same_id=same_id):
            print(json.dumps(seen), file=output, flush=True)
            os._exit(0)


def in_a_copy(
    handler: Callable[[object, object], object], events: list[object], *, same_id: bool
) -> dict[str, object] | None:
    """Return, in a copy of this process, what is seen there; here, ``None`` once the copy has ended."""
    if child := os.fork():
        if _status(child):
            sys.exit("A copy has failed.")
        return None
    if same_id:
        os.unshare(os.CLONE_NEWPID)
        if child := os.fork():
            os._exit(_status(child))
    began = _times()
    lambda_runtime_hooks_runner.run_after_restore()
    restored = _times()
    random = ssl.RAND_bytes(16).hex()
    answers, calls = [], []
    for event in events:
        before = _times()
        answers.append(handler(event, None))
        calls.append(_since(before, _times()))
    return {
        "answers": answers,
        "restoreNs": _since(began, restored),
        "callsNs": calls,
        "processId": os.getpid(),
        "random": random,
        "imported": sorted(sys.modules.keys() - _RUNTIMES),
    }


def _status(child: int) -> int:
    """Wait for the end of a child process and return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _times() -> tuple[int, int]:
    return time.perf_counter_ns(), time.process_time_ns()


def _since(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    return after[0] - before[0], after[1] - before[1]


def enter_process_namespace() -> bool:
    """Become the first process of a new namespace; return false if that is not allowed here."""
    user, group = os.getuid(), os.getgid()
    try:
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWPID)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except (OSError, AttributeError):
        return False
    if child := os.fork():
        os._exit(_status(child))
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
