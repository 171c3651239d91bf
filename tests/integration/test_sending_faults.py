"""Sending over real sockets: what clients got is what the report says, under faults and after a kill."""

from collections.abc import Iterator, Sequence
from random import randrange

import pytest

from tests.sending.checks import Verdict, faults, killed
from tests.sending.scene import Scene, a_scene
from tests.thoroughness import is_thorough

pytestmark = pytest.mark.xdist_group("chaos")


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    seed = 12 if is_thorough() else randrange(10_000)  # noqa: S311 - no secret
    with a_scene(seed) as scene:
        yield scene


def missed(verdicts: Sequence[Verdict], seed: int) -> list[str]:
    """What is not as it must be."""
    return [
        f"{it.figure}: {it.measured}, not {it.bar} (seed {seed})" for it in verdicts if it.is_met is False
    ]


def test_under_faults_every_recipient_is_counted_as_what_became_of_it(scene: Scene) -> None:
    verdicts = faults(scene, 2000)

    assert missed(verdicts, scene.seed) == []
    assert sum(it.is_met is True for it in verdicts) == 6


def test_after_a_kill_nobody_is_missed_and_one_page_at_most_is_sent_twice(
    scene: Scene, dynamodb_local: str
) -> None:
    verdicts = killed(scene, 6000, dynamodb_local)

    assert missed(verdicts, scene.seed) == []
    assert sum(it.is_met is True for it in verdicts) == 3
