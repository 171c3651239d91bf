"""What every lane shares: the lanes' summary, and a DynamoDB Local for those that want one."""

import pytest

from tests.lanes import LANES, LaneSummary, lane_of

pytest_plugins = ["tests.dynamodb_local"]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LaneSummary())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap lanes first: what is simply wrong shows before anything is started."""
    items.sort(key=lambda item: LANES.index(lane_of(item.path)))
