"""How many examples and orders the tests try: far more of them in CI.

``.ci/run`` uses ``pytest --hypothesis-profile=thorough --randomly-seed=1``: its result depends on the change
alone. By default each run tries other examples, in another order.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

# No deadlines: a busy machine is no failure.
_BASE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

settings.register_profile("everyday", parent=_BASE, max_examples=25)
settings.register_profile("repeatable", parent=_BASE, max_examples=25, derandomize=True)
settings.register_profile("thorough", parent=_BASE, max_examples=100, derandomize=True)
settings.load_profile("everyday")

_constants_of_modules = providers._get_local_constants  # noqa: SLF001 - no setting turns it off
_NO_CONSTANTS = Constants()


def _constants() -> Constants:
    """Return the constants that Hypothesis mixes into its examples: those of the modules imported so far.

    Which these are depends on the tests that the process ran before, so a repeatable run has none.
    """
    return _NO_CONSTANTS if settings().derandomize else _constants_of_modules()


vars(providers)["_get_local_constants"] = _constants

REPEATABLE = ("--hypothesis-profile=repeatable", "--randomly-seed=1")
"""pytest's options with which a test runs other tests, and ``.ci/run`` its second part."""


_FEW = 2  # so few cases are never sampled


def is_thorough() -> bool:
    return settings.get_current_profile_name() == "thorough"


def examples(number: int) -> int:
    """Return the number of examples to try: *number* in CI, by default a fifth of it."""
    return number if is_thorough() else max(number // 5, 5)


def sampled[T](cases: Sequence[T], one_in: int, *, one_in_ci: int = 1) -> Iterator[T]:
    """Return one in *one_in* cases, from an index drawn by the random seed; in CI one in *one_in_ci*."""
    if is_thorough():
        return islice(cases, 0, None, one_in_ci)
    if len(cases) // one_in < _FEW:
        return iter(cases)
    return islice(cases, random.randrange(one_in), None, one_in)  # noqa: S311 - not a secret
