"""``make chaos``: ten thousand connections under faults; then the table is compared with the truth.

Then a message is sent to as many clients under faults, and another whose process is killed.
At last, clients leave and return while messages flow, and none may be missed; and tabs
come and go, of which presence must have exactly those that are open.
"""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from datetime import timedelta

import pytest
from rich.console import Console

from tests.chaos.database import Database, a_database
from tests.chaos.figures import Outcome, show
from tests.chaos.flaws import Flaw
from tests.chaos.run import Options, run
from tests.environment import clear_user_settings


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C, so that every process is ended
    console = Console(width=100)
    options = _options()
    clear_user_settings(os.environ)
    console.print(
        f"{options.lifecycles:,} lifecycles, {options.workers} workers, seed {options.seed}: the same seed "
        "gives the same plan; the machine's timing is never the same."
    )
    try:
        with a_database() as database:
            outcome = asyncio.run(_stoppable(options, database))
    except (pytest.skip.Exception, pytest.fail.Exception) as no_database:
        sys.exit(str(no_database))
    except TimeoutError as error:
        sys.exit(f"{str(error) or f'Not done within {options.limit}'} (seed {options.seed}).")
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(f"Ended before it was done (seed {options.seed}).")
    show(console, outcome, options.seed)
    sys.exit(1 if outcome.differences else 0)


async def _stoppable(options: Options, database: Database) -> Outcome:
    """Run; on SIGTERM everything is ended in order."""
    running = asyncio.create_task(run(options, database))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--lifecycles", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=8, help="processes")
    parser.add_argument("--stops", type=int, default=3, help="of the database")
    parser.add_argument("--recipients", type=int, default=10_000, help="of a message")
    parser.add_argument("--clients", type=int, default=1000, help="that leave and return")
    parser.add_argument("--messages", type=int, default=10_000, help="meanwhile")
    parser.add_argument("--returns", type=int, default=5000, help="of these clients; 0 leaves them out")
    parser.add_argument("--stays", type=int, default=10_000, help="of tabs; 0 leaves them out")
    parser.add_argument("--seed", type=int, default=None, help="of the plan; random by default")
    parser.add_argument("--minutes", type=float, default=5, help="time limit of the run before that")
    parser.add_argument(
        "--returning-minutes", type=float, default=8, help="time limit of the returns, and of the stays"
    )
    parser.add_argument("--flaw", choices=list(Flaw), default="", help="a mistake that the run has to detect")
    chosen = parser.parse_args()
    return Options(
        seed=secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed,
        lifecycles=chosen.lifecycles,
        workers=chosen.workers,
        stops=chosen.stops,
        recipients=chosen.recipients,
        clients=chosen.clients,
        messages=chosen.messages,
        returns=chosen.returns,
        stays=chosen.stays,
        limit=timedelta(minutes=chosen.minutes),
        returning_limit=timedelta(minutes=chosen.returning_minutes),
        flaw=chosen.flaw,
    )


main()
