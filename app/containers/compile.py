"""A container's compiled form, from the image's build: plain Python, since the injector imports asyncio."""

from typing import Any

from dependency_injector import providers

from app.containers.imports import import_of

_DOC = '"""{0.__name__} of {0.__module__}, compiled."""\n# mypy: allow-redefinition'
_CALLS = (providers.Singleton, providers.Factory, providers.Callable)


def compile_container(container: Any, *roots: str, first: tuple[str, ...] = ()) -> str:
    """Return a module whose ``compose`` builds *first*, and returns the Singletons *roots*; ruff formats it.

    Raises:
        ValueError: something has no compiled form, such as an override or another kind of provider.
    """
    names = {provider: name for name, provider in container.providers.items()}
    body = _Scope(names, {**container.providers, "compose": compile_container}, {}, set(), ())
    given = [it for it in names if type(it) is providers.Dependency]
    parameters = [f"{body.expression(it)}: {body.imported(it.instance_of)}" for it in given]
    results = [body.expression(container.providers[it]) for it in (*first, *roots)][len(first) :]
    types = [body.imported(getattr(container, root).cls) for root in roots]
    head = f"def compose({', '.join(parameters)}) -> tuple[{', '.join(types)}]:"
    lines = [f"    {it}" for it in [*body.lines(), f"return {', '.join(results)}{',' * (len(roots) == 1)}\n"]]
    return "\n".join([_DOC.format(container), *sorted(body.imports), head, *lines])


class _Scope:
    """The body of ``compose``, or of a case in it: what it imports, and its lines."""

    def __init__(self, names: Any, meanings: Any, scopes: Any, built: set[Any], case: Any) -> None:
        self.imports, self._lines = set[str](), list[str]()
        self._names, self._meanings, self._scopes = names, meanings, scopes  # one of each for all
        self._built, self._case = built, case  # the Selectors around it, each with its key

    def lines(self) -> list[str]:
        return [line for line in self._lines if line.strip() not in self.imports]  # a case may repeat some

    def expression(self, value: Any) -> str:  # noqa: PLR0911 - one for each kind
        """Return the expression for *value*, and add the lines that build what it needs."""
        match value:
            case providers.Provider() if value.overridden:
                raise ValueError(f"{self._names.get(value, value)} is overridden.")
            case providers.Provider() if value in self._built:
                return str(self._names[value])
            case providers.Dependency() if value.default is None:
                return str(self._names[value])
            case providers.Object() if not isinstance(value.provides, providers.Provider):
                return self.expression(value.provides)
            case providers.ProvidedInstance():
                return self.expression(value.provides)
            case providers.AttributeGetter():
                return f"{self.expression(value.provides)}.{value.name}"
            case providers.Selector() if value in self._names and value.providers:
                return self._selected(value, self._names[value])
            case providers.Provider() if type(value) in _CALLS:
                return self._called(value)
        return repr(value) if value is None or type(value) in (bool, int, str) else self.imported(value)

    def _selected(self, selector: Any, name: str) -> str:
        self._lines.append(f"match {self.expression(selector.selector)}:")
        for key, branch in selector.providers.items():
            if type(branch) not in (providers.Singleton, providers.Selector):
                raise ValueError(f"{name} selects a {type(branch).__name__}, which is called at each use.")
            case = _Scope(
                self._names, self._meanings, self._scopes, {*self._built}, (*self._case, (selector, key))
            )
            result = f"{name} = {case.expression(branch)}"
            lines = [*sorted(case.imports), *case.lines(), result]
            self._lines += [f"    case {key!r}:", *(f"        {line}" for line in lines)]
        self._lines += ["    case other:", f"        raise LookupError(f'{name} has no {{other}}.')"]
        self._built.add(selector)
        return name

    def _called(self, provider: Any) -> str:
        name, arguments = self._names.get(provider), list[str]()
        for key, value in [*(("", it) for it in provider.args), *provider.kwargs.items()]:
            before = len(self._lines)
            arguments.append(f"{key}{key and '='}{self.expression(value)}")
            if len(self._lines) > before and "(" in "".join(arguments[:-1]):
                raise ValueError(f"{arguments[-1]} would be built before {arguments[-2]}: exchange them.")
        text = f"{self.imported(provider.provides)}({', '.join(arguments)})"
        if type(provider) is not providers.Callable and provider.attributes:
            raise ValueError(f"{name or text} has attributes.")
        if type(provider) is providers.Singleton:
            others = self._scopes.setdefault(provider, [])
            if not all(_exclude_each_other(self._case, it) for it in others):
                raise ValueError(f"{name or text} would be built twice: let something before need it.")
            others.append(self._case)
            if name:
                self._lines.append(f"{name} = {text}")
                self._built.add(provider)
        return name if name and provider in self._built else text

    def imported(self, value: Any) -> str:
        """Import *value*, a module, class or function, and return its name."""
        module, name = import_of(value)
        if self._meanings.setdefault(name, (module, name)) != (module, name):
            raise ValueError(f"{name} is the name of two things.")
        self.imports.add(f"from {module} import {name}" if module else f"import {name}")
        return name


def _exclude_each_other(one: Any, other: Any) -> bool:
    return next((a[0] is b[0] for a, b in zip(one, other, strict=False) if a != b), False)
