"""What every lane shares: a clean environment, the lanes' summary, a DynamoDB Local."""

import os
import signal

import pytest

import tests.thoroughness  # noqa: F401 - registers the profiles
from tests.environment import forget_users_settings
from tests.lanes import LANES, LaneSummary, lane_of

pytest_plugins = ["tests.dynamodb_local"]

ONE_PROCESS = ("image", "stack")
"""Lanes whose servers are costly to start: with several processes, all of such a lane runs in one."""


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background jobs ignore SIGINT, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(LaneSummary(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap lanes first: what is simply wrong shows before anything is started."""
    items.sort(key=lambda item: LANES.index(lane_of(item.path)))
    for item in items:
        if (lane := lane_of(item.path)) in ONE_PROCESS:
            item.add_marker(pytest.mark.xdist_group(lane))


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, since many tests wait; four at most, for each has a database."""
    return min((os.process_cpu_count() or 1) + 1, 4)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> None:
    """Nothing of the user's settings, and credentials that open nothing, from the first test on.

    It is not done before: with several processes, the first one only starts
    the others, which take the user's environment from it (``tests.environment.USERS``).
    """
    forget_users_settings(os.environ)
