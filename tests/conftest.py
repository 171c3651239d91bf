"""Shared by all lanes: a clean environment, the summary of the lanes, a DynamoDB Local."""

import os
import signal
import site

import pytest

import tests.thoroughness  # noqa: F401 - registers the profiles
from tests.environment import clear_user_settings
from tests.lanes import LANES, LaneSummary, lane_of
from tests.promises import CHOSEN, ITS_PATH, Promises

pytest_plugins = ["tests.dynamodb_local", "tests.stores", "tests.writers"]

collect_ignore = ["extension"]  # its packages are in an environment of its own

ONE_PROCESS = ("image", "stack", "browser")
"""Lanes with servers that are slow to start: each of these lanes runs in one process."""


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background jobs ignore SIGINT, and the processes that a test starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    store = os.environ.get(CHOSEN)
    for folder in filter(None, os.environ.get(ITS_PATH, "").split(os.pathsep)):
        site.addsitedir(folder)  # at the end: the tests' own packages come first
    config.pluginmanager.register(Promises(store) if store else LaneSummary(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run cheap lanes first, so that a simple fault shows before any server starts."""
    items.sort(key=lambda item: LANES.index(lane_of(item.path)))
    for item in items:
        if (lane := lane_of(item.path)) in ONE_PROCESS:
            item.add_marker(pytest.mark.xdist_group(lane))


def pytest_xdist_auto_num_workers() -> int:
    """Return the cores plus one, since many tests wait; at most four, since each process has a database."""
    return min((os.process_cpu_count() or 1) + 1, 4)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> None:
    """Remove the user's settings and set invalid credentials, before the first test.

    Not at the start of pytest: with several processes, the first one only starts
    the others, which inherit the user's environment from it (``tests.environment.USERS``).
    """
    clear_user_settings(os.environ)
