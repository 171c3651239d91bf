"""How many examples and orders the tests try: a part of them every day, all of them in CI.

``pytest --hypothesis-profile=thorough`` is what ``.ci/run`` asks for.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from hypothesis import HealthCheck, settings

# No deadlines: a machine that is busy is not at fault.
_BASE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

settings.register_profile("everyday", parent=_BASE, max_examples=25)
# The same examples each time, so that CI judges the change and not the draw.
settings.register_profile("thorough", parent=_BASE, max_examples=100, derandomize=True)
settings.load_profile("everyday")


_FEW = 2  # of so few cases none is left out


def is_thorough() -> bool:
    return settings.get_current_profile_name() == "thorough"


def examples(number: int) -> int:
    """How many examples to try: *number*, or a fifth of them every day."""
    return number if is_thorough() else max(number // 5, 5)


def sampled[T](cases: Sequence[T], one_in: int) -> Iterator[T]:
    """All of *cases*, or every day one in so many, from a start that pytest-randomly's seed decides."""
    if is_thorough() or len(cases) // one_in < _FEW:
        return iter(cases)
    return islice(cases, random.randrange(one_in), None, one_in)  # noqa: S311 - no secret is made of it
