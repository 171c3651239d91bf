"""The page that compares: each cell has a source, and no source is missing or left over."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "infra" / "docs" / "comparison.md"
TEXT = PAGE.read_text()
DEFINED = re.findall(r"^\[([\w-]+)\]: ", TEXT, re.MULTILINE)


def references(text: str) -> set[str]:
    return set(re.findall(r"\]\[([\w-]+)\]", text))


IN_SHORT = {
    "who is connected": "Who is connected",
    "events to backends": "Presence for backends",
    "a report for each recipient": "Report of a delivery",
    "missed while away": "What was missed while away",
    "messages from clients": "**Messages from clients**",
    "order": "**Order, repeats**",
    "operated by": "**Operation**",
}
"""The rows of the README's table, and those of the page that they are of."""


def unknown(text: str) -> set[tuple[str, str]]:
    """Return row and column of each cell of the tables in *text* that is not known."""
    found = set()
    for heading, rows in re.findall(r"^(\| \| Switchboard \|.*)\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        _, *columns = heading.strip("| ").split(" | ")
        for line in rows.splitlines():
            row, *cells = line.strip("| ").split(" | ")
            found |= {(row, of) for of, cell in zip(columns, cells[1:], strict=True) if cell == "not known"}
    return found


def tables() -> list[list[list[str]]]:
    """Return the cells of the tables of products, row by row, without their headings."""
    blocks = re.findall(r"^\| \| Switchboard \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return [[line.strip("| ").split(" | ") for line in block.splitlines()] for block in blocks]


def test_each_cell_has_a_source_or_is_not_known() -> None:
    cells = [cell for table in tables() for _, *row in table for cell in row]

    assert cells
    assert [cell for cell in cells if cell != "not known" and not references(cell)] == []


def test_each_reference_is_defined_and_used() -> None:
    assert references(TEXT) == set(DEFINED)


def test_both_tables_say_the_same_of_switchboard() -> None:
    first, second = ([row[:2] for row in table] for table in tables())

    assert first == second


def test_the_readme_says_not_known_where_the_page_does() -> None:
    readme = (PAGE.parent.parent.parent / "README.md").read_text()
    [heading] = re.findall(r"^\| \| Switchboard \|.*Centrifugo \|$", readme, re.MULTILINE)
    in_readme = {(IN_SHORT[row], column) for row, column in unknown(readme)}
    asked = {(row, column) for row in IN_SHORT.values() for column in heading.strip("| ").split(" | ")}

    assert in_readme == unknown(TEXT) & asked
