"""The imports of our entrypoint as a tree with their times (``python -X importtime``)."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.tree import Tree

from tests.benchmarks.assemble import PYTHON
from tests.benchmarks.subjects import Backend, Subject

_LINE = re.compile(r"import time:\s+(?P<own>\d+) \|\s+(?P<total>\d+) \| (?P<indent> *)(?P<name>\S+)")
_TRIES = 7
_US_PER_MS = 1000


@dataclass(frozen=True, slots=True)
class Import:
    """An imported module: µs for itself, and with the modules that it was the first to import."""

    name: str
    own_us: int
    total_us: int
    children: "list[Import]" = field(default_factory=list)

    def all(self) -> Iterator["Import"]:
        yield self
        for child in self.children:
            yield from child.all()


def import_tree(subject: Subject, backend: Backend) -> Import:
    """Return the imports of *subject*'s module, without the runtime's own, in the fastest of some runs."""
    runs = [_imported(subject, backend) for _ in range(_TRIES)]
    return min(runs, key=lambda root: root.total_us)


def show_imports(console: Console, root: Import, *, from_ms: float) -> None:
    """Print the tree; modules below *from_ms* are summed."""
    console.print(
        f"[bold]Imports of {root.name}[/] beyond the runtime's own: "
        f"{sum(1 for _ in root.all()) - 1} modules, ms with those that it imports first (its own ms)"
    )
    tree = Tree(_label(root))
    _grow(tree, root, int(from_ms * _US_PER_MS))
    console.print(tree)
    console.print()


def _grow(tree: Tree, node: Import, threshold: int) -> None:
    cheap = [child for child in node.children if child.total_us < threshold]
    for child in sorted(node.children, key=lambda child: -child.total_us):
        if child.total_us >= threshold:
            _grow(tree.add(_label(child)), child, threshold)
    if cheap:
        modules = sum(1 for child in cheap for _ in child.all())
        total = sum(child.total_us for child in cheap) / _US_PER_MS
        tree.add(f"[dim]{total:6.2f}  {modules} more[/]")


def _label(node: Import) -> str:
    return f"{node.total_us / _US_PER_MS:6.2f}  {node.name} [dim]({node.own_us / _US_PER_MS:.2f})[/]"


def _imported(subject: Subject, backend: Backend) -> Import:
    result = subprocess.run(
        [PYTHON, "-s", "-P", "-X", "importtime", "-c", f"import driver, {subject.module}"],
        env=subject.environ_for(backend),
        cwd=subject.folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return _parsed(result.stderr, subject.module)


def _parsed(text: str, module: str) -> Import:
    """Return the imports after the driver's, below one root; a module's line follows those it imports."""
    pending: dict[int, list[Import]] = {}
    tops: list[Import] = []
    for match in _LINE.finditer(text):
        depth = len(match["indent"]) // 2
        node = Import(match["name"], int(match["own"]), int(match["total"]), pending.pop(depth + 1, []))
        if depth:
            pending.setdefault(depth, []).append(node)
        else:
            tops.append(node)
    first = next(number for number, node in enumerate(tops) if node.name == "driver") + 1
    (*before, last) = tops[first:]
    assert last.name == module
    return Import(module, last.own_us, sum(node.total_us for node in tops[first:]), [*before, *last.children])
