"""Every order in which the steps of several actors can happen.

Each actor is a function in a thread of its own, of which one runs at a time. It
calls ``step`` before each of its steps, and there waits for its turn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import randrange
from threading import Lock, Thread

type Step = Callable[..., None]
"""Waits for the actor's turn; with a condition, which is called with no argument, not before it is true."""
type Actor = Callable[[Step], None]


def some_orders(actors: Callable[[], Mapping[str, Actor]], number: int) -> Iterator[list[str]]:
    """Run new *actors* in so many random orders, and yield each order after its run."""
    for _ in range(number):
        run = _Run(actors(), (), at_random=True)
        run.carry_out()
        yield run.order


def every_order(actors: Callable[[], Mapping[str, Actor]]) -> Iterator[list[str]]:
    """Run new *actors* once in each order of their steps, and yield each order after its run."""
    choices: list[int] = []
    while True:
        run = _Run(actors(), choices)
        run.carry_out()
        yield run.order
        choices = run.choices
        while choices and choices[-1] == run.alternatives[len(choices) - 1] - 1:
            choices.pop()
        if not choices:
            return
        choices[-1] += 1


def in_order(actors: Mapping[str, Actor], order: Sequence[str]) -> None:
    """Run *actors* in that *order* of their steps, and then each to its end."""
    _Run(actors, (), names=order).carry_out()


class _Run:
    """One order: at each step the actor that *choices* or *names* say, and then the first one, or any."""

    def __init__(
        self,
        actors: Mapping[str, Actor],
        choices: Sequence[int],
        *,
        names: Sequence[str] = (),
        at_random: bool = False,
    ) -> None:
        self._choices = choices
        self._names = names
        self._at_random = at_random
        self._conditions: dict[str, Callable[[], bool]] = {}
        self._turns = {name: _acquired() for name in actors}
        self._back = _acquired()
        self._errors: list[BaseException] = []
        self._threads = [
            Thread(target=self._act, args=(name, actor), daemon=True) for name, actor in actors.items()
        ]
        self.order: list[str] = []
        self.choices: list[int] = []
        self.alternatives: list[int] = []

    def carry_out(self) -> None:
        for thread in self._threads:
            thread.start()  # to its first step
            self._back.acquire()
        while ready := [name for name, condition in self._conditions.items() if condition()]:
            number = len(self.choices)
            if number < len(self._choices):
                choice = self._choices[number]
            elif number < len(self._names):
                choice = ready.index(self._names[number])
            else:
                choice = randrange(len(ready)) if self._at_random else 0  # noqa: S311 - repeated by the seed
            self.choices.append(choice)
            self.alternatives.append(len(ready))
            self.order.append(ready[choice])
            self._turns[ready[choice]].release()
            self._back.acquire()
            if self._errors:
                raise self._errors[0]
        assert not self._conditions, f"{list(self._conditions)} wait for ever after {self.order}"

    def _act(self, name: str, actor: Actor) -> None:
        def step(condition: Callable[[], bool] = _always) -> None:
            self._conditions[name] = condition
            self._back.release()
            self._turns[name].acquire()

        try:
            actor(step)
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            self._errors.append(error)
        del self._conditions[name]
        self._back.release()


def _acquired() -> Lock:
    """Return a lock that another thread releases; with Semaphores, a run takes 1.4 times as long."""
    lock = Lock()
    lock.acquire()
    return lock


def _always() -> bool:
    return True
