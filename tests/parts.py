"""Small containers, and what they are made of, for the tests of their compiled form."""

import functools
import json.decoder
from collections.abc import Callable
from enum import StrEnum

from dependency_injector import containers, providers

from app.adapters.clock import SystemClock
from app.containers.imports import Imported


class Part:
    """Something that knows what it was made with."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.arguments, self.options = arguments, options


class Kind:
    """The settings of the containers below."""

    def __init__(self, name: str, size: int = 1) -> None:
        self.name, self.size, self.self = name, size, self


class Color(StrEnum):
    """A text with another notation."""

    RED = "red"


def count(start: int = 0) -> Part:
    return Part("count", start)


def tally() -> Part:
    return Part("tally")


def decorated[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        return function(*arguments, **options)

    return call


class Shared(containers.DeclarativeContainer):
    """A Singleton in a case and outside of it, a Factory and a Callable that are called at each use."""

    kind = providers.Dependency(instance_of=Kind)
    base = providers.Singleton(Part, kind.provided.self.size)
    each = providers.Factory(Part, base)
    number = providers.Callable(count, start=kind.provided.size)
    inner = providers.Singleton(Part)
    nested = providers.Selector(kind.provided.name, large=inner, small=inner, same=inner)
    chosen = providers.Selector(
        kind.provided.name,
        large=providers.Singleton(Part, base, number, "large", None, -1),
        small=providers.Singleton(Imported("tests.parts:Part"), small=base),
        same=base,
        **{"a 'quoted' {one}": providers.Singleton(Part, "a 'quoted' {one}")},
    )
    one = providers.Singleton(Part, base, chosen, each, number)
    other = providers.Singleton(Part, chosen, nested, each, one=one)


_twice = providers.Singleton(Part)


class NotCompilable(containers.DeclarativeContainer):
    """Each ``of_...`` has no compiled form."""

    kind = providers.Dependency(instance_of=Kind)
    part = providers.Singleton(Part)
    number = providers.Callable(count)
    empty: providers.Selector[object] = providers.Selector(kind.provided.name)
    factory = providers.Selector(kind.provided.name, each=providers.Factory(Part))
    call = providers.Selector(kind.provided.name, each=providers.Callable(count))
    first = providers.Selector(kind.provided.name, case=part)
    second = providers.Selector(kind.provided.name, case=part)
    clock = providers.Singleton(SystemClock)
    tally = providers.Singleton(tally)
    late = providers.Singleton(Part)
    replaced = providers.Singleton(Part)
    replaced.override(providers.Object(None))
    with_attributes = providers.Singleton(Part)
    with_attributes.add_attributes(size=1)

    of_a_thread_safe = providers.Singleton(Part, providers.ThreadSafeSingleton(Part))
    of_a_list_provider = providers.Singleton(Part, providers.List(kind))
    of_a_method_call = providers.Singleton(Part, kind.provided.name.upper.call())
    of_a_lambda = providers.Singleton(lambda: Part("unnamed"))
    of_a_decorated = providers.Singleton(Part, decorated(decorated))
    of_none_type = providers.Singleton(Part, type(None))
    of_a_list = providers.Singleton(Part, [])
    of_an_enum = providers.Singleton(Part, Color.RED)
    of_a_module_in_a_package = providers.Singleton(Part, json.decoder)
    of_a_provider = providers.Singleton(Part, providers.Object(part))
    of_an_empty_selector = providers.Singleton(Part, empty)
    of_an_unnamed_selector = providers.Singleton(
        Part, providers.Selector(kind.provided.name, case=providers.Singleton(Part))
    )
    of_a_factory_in_a_case = providers.Singleton(Part, factory)
    of_a_callable_in_a_case = providers.Singleton(Part, call)
    of_two_selectors = providers.Singleton(Part, first, second)
    of_one_unnamed_part = providers.Singleton(Part, _twice, _twice)
    of_a_case_and_itself = providers.Singleton(Part, first, part)
    of_a_namesake = providers.Singleton(Part, tally)
    of_two_clocks = providers.Singleton(Part, clock, providers.Singleton(Imported("tests.parts:SystemClock")))
    of_a_call_before_a_part = providers.Singleton(Part, number, late)
    of_an_override = providers.Singleton(Part, replaced)
    of_attributes = providers.Singleton(Part, with_attributes)


class WithADefault(containers.DeclarativeContainer):
    """A Dependency that need not be given."""

    kind: providers.Dependency[object] = providers.Dependency(default=providers.Object(None))
    part = providers.Singleton(Part, kind)


REFUSALS = {
    "of_a_thread_safe": "ThreadSafeSingleton",
    "of_a_list_provider": "List",
    "of_a_method_call": "MethodCaller",
    "of_a_lambda": "<lambda>",
    "of_a_decorated": "can't be imported by a name",
    "of_none_type": "NoneType",
    "of_a_list": r"\[\] can't be imported by a name",
    "of_an_enum": "RED",
    "of_a_module_in_a_package": "json.decoder",
    "of_a_provider": "Object",
    "of_an_empty_selector": "Selector",
    "of_an_unnamed_selector": "Selector",
    "of_a_factory_in_a_case": "factory selects a Factory, which is called at each use.",
    "of_a_callable_in_a_case": "call selects a Callable, which is called at each use.",
    "of_two_selectors": "part would be built twice: let something before need it.",
    "of_one_unnamed_part": r"Part\(\) would be built twice",
    "of_a_case_and_itself": "part would be built twice",
    "of_a_namesake": "tally is the name of two things.",
    "of_two_clocks": "SystemClock is the name of two things.",
    "of_a_call_before_a_part": r"late would be built before count\(\): exchange them.",
    "of_an_override": "replaced is overridden.",
    "of_attributes": "with_attributes has attributes.",
}
