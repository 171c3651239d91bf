"""What a setting names by an import path: it is imported only when it is chosen."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn, get_protocol_members

from app.settings import InvalidSetting


class Imported:
    """A stand-in for what *path* names, as ``package.module:name``; a call imports that, and calls it."""

    def __init__(self, path: str) -> None:
        self.module, _, self.name = path.partition(":")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(import_module(self.module), self.name)(*arguments, **options)


def import_of(value: Any) -> tuple[str, str]:
    """Return the module and the name by which *value* is imported; of a module, an empty text and its name.

    Raises:
        ValueError: it is not what that import would give.
    """
    if isinstance(value, Imported):
        return value.module, value.name
    if isinstance(value, ModuleType) and "." not in value.__name__:
        return "", value.__name__
    match getattr(value, "__module__", None), getattr(value, "__qualname__", None):
        case str(module), str(name) if getattr(import_module(module), name, None) is value:
            return module, name
    raise ValueError(f"{value!r} can't be imported by a name.")


def storage(path: str, environ: Mapping[str, str], port: type, needed_by: str) -> Any:
    """Return the storage adapter from the factory that *path* names; it has the methods of *port*.

    The factory gets *environ* and checks its own settings there. A ValueError of
    it has a sentence for the operator.

    Raises:
        InvalidSetting: there is no such factory, it refuses its settings, or its result lacks a method.
    """
    module_name, _, name = path.partition(":")
    try:
        factory = getattr(import_module(module_name), name, None)
    except Exception as error:
        raise InvalidSetting(f"STORE={path} can't be imported: {type(error).__name__}: {error}.") from error
    if not callable(factory):
        raise InvalidSetting(f"STORE={path}: {module_name} has no callable {name}.")
    try:
        adapter = factory(environ)
    except ValueError as error:
        raise InvalidSetting(f"STORE={path}: {error}") from error
    methods = get_protocol_members(port)
    missing = sorted(method for method in methods if not callable(getattr(adapter, method, None)))
    if missing:
        kind = type(adapter).__name__
        raise InvalidSetting(f"STORE={path}: {kind} lacks {', '.join(missing)}, needed by {needed_by}.")
    return adapter


def no_transport() -> Any:
    """Return what stands for the transport where nothing is carried."""
    return None


def no_stream(path: str) -> NoReturn:
    """Refuse an adapter from outside for the function that follows DynamoDB's stream."""
    raise InvalidSetting(f"STORE={path} has no stream: presence follows the stream of a DynamoDB table.")
