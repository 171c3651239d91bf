"""What every lane shares: the lanes' summary, harmless credentials, a DynamoDB Local."""

import os
import signal

import pytest

from tests.lanes import LANES, LaneSummary, lane_of

pytest_plugins = ["tests.dynamodb_local"]


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background jobs ignore SIGINT, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(LaneSummary())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap lanes first: what is simply wrong shows before anything is started."""
    items.sort(key=lambda item: LANES.index(lane_of(item.path)))


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that open nothing, and none of the AWS settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")  # DynamoDB Local wants letters and digits only
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
