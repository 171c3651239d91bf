"""A run's counts and differences, and their output."""

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from tests.sending.checks import Verdict


@dataclass(slots=True)
class Figures:
    """Counts by section and name, in the order of their first use."""

    sections: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, section: str, name: str, number: int = 1) -> None:
        self.sections.setdefault(section, Counter())[name] += number

    def of(self, section: str) -> Counter[str]:
        return self.sections.get(section, Counter())


@dataclass(slots=True)
class Outcome:
    """A run's figures, and the differences from the truth: none if all is well."""

    figures: Figures = field(default_factory=Figures)
    verdicts: list[Verdict] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def show(console: Console, outcome: Outcome, seed: int) -> None:
    """Print the figures, and after them the differences, if there are any."""
    table = Table("", "", "", title=f"Chaos, seed {seed}", show_header=False, title_justify="left")
    table.columns[2].justify = "right"
    for section, counted in outcome.figures.sections.items():
        for index, (name, number) in enumerate(sorted(counted.items())):
            table.add_row(section if index == 0 else "", name, f"{number:,}")
        table.add_section()
    console.print(table)
    sending = Table("figure", "measured", "must be", title="A message", title_justify="left")
    for verdict in outcome.verdicts:
        sending.add_row(verdict.figure, verdict.measured, verdict.bar)
    if outcome.verdicts:
        console.print(sending)
    for difference in outcome.differences[:20]:
        console.print(f"[bold red]{difference}[/]", highlight=False)
    if outcome.differences:
        console.print(f"[bold red]{len(outcome.differences)} differences[/] (seed {seed})")
    else:
        console.print(
            "[bold green]No ghost item, no missing item; nobody missed a message; presence is right.[/]"
        )
