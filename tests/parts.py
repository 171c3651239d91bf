"""Small containers, and what they are made of, for the tests of their compiled form."""

from dependency_injector import containers, providers

from app.containers.imports import imported


class Part:
    """Something that knows what it was made with."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.arguments, self.options = arguments, options


def count(start: int = 0) -> Part:
    return Part("count", start)


class Kind:
    """The settings of the containers below."""

    def __init__(self, name: str, size: int = 1) -> None:
        self.name, self.size, self.self = name, size, self


class Shared(containers.DeclarativeContainer):
    """A Singleton in a case and outside of it, a Factory and a Callable that are called at each use."""

    kind = providers.Dependency(instance_of=Kind)
    base = providers.Singleton(Part, kind.provided.self.size)
    each = providers.Factory(Part, base)
    number = providers.Callable(count, start=kind.provided.size)
    chosen = providers.Selector(
        kind.provided.name,
        large=providers.Singleton(Part, base, number, "large", None, -1),
        small=providers.Singleton(imported("tests.parts:Part"), small=base),
        same=base,
    )
    one = providers.Singleton(Part, base, chosen, each, number)
    other = providers.Singleton(Part, chosen, each, one=one)


class Changed(Shared):
    """With another provider."""

    base = providers.Singleton(count)
    one = providers.Singleton(Part, base)
    other = providers.Singleton(Part, one)


class NotCompilable(containers.DeclarativeContainer):
    """Each provider but the first has no compiled form."""

    kind = providers.Dependency(instance_of=Kind)
    thread_safe = providers.Singleton(Part, providers.ThreadSafeSingleton(Part))
    listed = providers.Singleton(Part, providers.List(kind))
    unnamed = providers.Singleton(lambda: Part("unnamed"))
    of_a_list = providers.Singleton(Part, [])
    factory = providers.Selector(kind.provided.name, each=providers.Factory(Part))
    of_a_factory = providers.Singleton(Part, factory)
    part = providers.Singleton(Part)
    first = providers.Selector(kind.provided.name, case=part)
    second = providers.Selector(kind.provided.name, case=part)
    of_two_cases = providers.Singleton(Part, first, second)
    inner = providers.Singleton(Part)
    of_a_case_and_itself = providers.Singleton(
        Part, providers.Selector(kind.provided.name, case=providers.Singleton(Part))
    )
