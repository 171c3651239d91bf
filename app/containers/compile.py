"""A container's compiled form: plain Python that composes what the container does, without the injector.

The injector's import takes half of a cold start, so the image's build writes this form for the handshakes.
"""

from types import ModuleType
from typing import Any

from dependency_injector import containers, providers


def compiled(container: type[containers.DeclarativeContainer], *functions: str) -> str:
    """Return a module whose ``compose`` returns what *functions* of *container* return; ruff formats it.

    Raises:
        ValueError: an override, another kind of provider, a Singleton that would be built twice.
    """
    names = {provider: name for name, provider in container.providers.items()}
    given = [provider for provider in names if type(provider) is providers.Dependency]
    body = _Block(names, {*given}, {}, (None, None))
    results = [body.text(container.providers[name]) for name in functions]
    types = [body.name(getattr(container, name).cls) for name in functions]
    parameters = [f"{names[it]}: {body.name(it.instance_of)}" for it in given]
    doc = f'"""{container.__name__} of {container.__module__}, compiled."""'
    head = f"def compose({', '.join(parameters)}) -> tuple[{', '.join(types)}]:"
    lines = [f"    {line}" for line in [*body.lines(), f"return {', '.join(results)}\n"]]
    return "\n".join([doc, *sorted(body.imports), head, *lines])


class _Block:
    """The body of ``compose``, or of a case in it: what it imports, and its lines."""

    def __init__(self, names: dict[Any, str], built: set[Any], places: dict[Any, Any], place: Any) -> None:
        self.imports, self._lines = set[str](), list[str]()
        self._names, self._built, self._places, self._place = names, built, places, place

    def lines(self) -> list[str]:
        return [line for line in self._lines if line.strip() not in self.imports]  # those of cases in it

    def text(self, value: Any) -> str:  # noqa: PLR0911 - one for each kind
        """Return the expression for *value*, and add the lines that build what it needs."""
        match value:
            case None | bool() | int() | str():
                return repr(value)
            case providers.Provider() if value in self._built:
                return self._names[value]
            case providers.Provider() if value.overridden:
                raise ValueError(f"{self._names[value]} is overridden.")
            case providers.Object() | providers.ProvidedInstance():
                return self.text(value.provides)
            case providers.AttributeGetter():
                return f"{self.text(value.provides)}.{value.name}"
            case providers.Selector() if value in self._names:
                return self._selected(value, self._names[value])
            case providers.Provider() if type(value) in (
                providers.Singleton,
                providers.Factory,
                providers.Callable,
            ):
                return self._called(value)
        return self.name(value)

    def _selected(self, selector: Any, name: str) -> str:
        self._lines.append(f"match {self.text(selector.selector)}:")
        for case, branch in selector.providers.items():
            if type(branch) not in (providers.Singleton, providers.Selector):
                raise ValueError(f"{name} selects a {type(branch).__name__}, which is called at each use.")
            block = _Block(self._names, {*self._built}, self._places, (selector, case))
            result = f"{name} = {block.text(branch)}"
            lines = [*sorted(block.imports), *block.lines(), result]
            self._lines += [f"    case {case!r}:", *(f"        {line}" for line in lines)]
        self._lines += ["    case other:", f"        raise LookupError(f'{name} has no {{other}}.')"]
        self._built.add(selector)
        return name

    def _called(self, provider: Any) -> str:
        texts = [self.text(it) for it in provider.args]
        texts += [f"{name}={self.text(it)}" for name, it in provider.kwargs.items()]
        text = f"{self.name(provider.provides)}({', '.join(texts)})"
        if type(provider) is not providers.Singleton:
            return text
        places = self._places[provider] = [*self._places.get(provider, ()), self._place]
        if len({*places}) < len(places) or len({selector for selector, _ in places}) > 1:
            raise ValueError(f"{self._names.get(provider, text)} would be built twice.")
        if name := self._names.get(provider):
            self._lines.append(f"{name} = {text}")
            self._built.add(provider)
        return name or text

    def name(self, value: Any) -> str:
        """Import *value*, a module, class or function, and return its name."""
        if isinstance(value, ModuleType):
            self.imports.add(f"import {value.__name__}")
            return value.__name__
        name = getattr(value, "__qualname__", "")
        if isinstance(value, providers.Provider) or not name.isidentifier():
            raise ValueError(f"{value!r} has no compiled form.")
        self.imports.add(f"from {value.__module__} import {name}")
        return str(name)
