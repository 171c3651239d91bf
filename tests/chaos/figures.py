"""What a run counted, and how it is shown."""

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Figures:
    """Counts by section and name, in the order in which they came up."""

    sections: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, section: str, name: str, number: int = 1) -> None:
        self.sections.setdefault(section, Counter())[name] += number

    def of(self, section: str) -> Counter[str]:
        return self.sections.get(section, Counter())


@dataclass(slots=True)
class Outcome:
    """A run's figures, and what in the table was not as it is in truth: nothing, where all is well."""

    figures: Figures = field(default_factory=Figures)
    differences: list[str] = field(default_factory=list)


def show(console: Console, outcome: Outcome, seed: int) -> None:
    """The figures, and after them the differences, if there are any."""
    table = Table("", "", "", title=f"Chaos, seed {seed}", show_header=False, title_justify="left")
    table.columns[2].justify = "right"
    for section, counted in outcome.figures.sections.items():
        for turn, (name, number) in enumerate(sorted(counted.items())):
            table.add_row(section if turn == 0 else "", name, f"{number:,}")
        table.add_section()
    console.print(table)
    for difference in outcome.differences[:20]:
        console.print(f"[bold red]{difference}[/]", highlight=False)
    if outcome.differences:
        console.print(f"[bold red]{len(outcome.differences)} differences[/] (seed {seed})")
    else:
        console.print("[bold green]No ghost row, no missing row.[/]")
