"""Whether README.ko.md says what README.md says, section by section.

``python -m tests.translation`` records that the two agree now. It is for who has
changed a section in both, and has read them side by side.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ENGLISH, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"
RECORD = Path(__file__).with_suffix(".json")
"""For each English heading the digests of both sections, as they were when they agreed."""


class Section(NamedTuple):
    """A section of a document; the first one has the document's title."""

    heading: str
    text: str

    def digest(self) -> str:
        return sha256(self.text.encode()).hexdigest()[:16]


def sections(document: str) -> list[Section]:
    """Return the sections of a Markdown document, down to ``##``."""
    parts = re.split(r"^(?=##? )", document.strip() + "\n", flags=re.MULTILINE)
    return [Section(part.splitlines()[0].lstrip("# "), part.strip()) for part in parts if part]


def changed(
    english: list[Section], korean: list[Section], record: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    """Yield a sentence for each section that is not as it was when the two agreed."""
    for ours, theirs in zip_longest(english, korean):
        if ours is None or theirs is None:
            yield f"{(ours or theirs).heading}: only one of the two has it"
            continue
        name = f"{ours.heading} ({theirs.heading})"
        match ours.digest(), theirs.digest(), record.get(ours.heading, ("", "")):
            case (a, b, (c, d)) if (a, b) == (c, d):
                pass
            case (_, b, (_, d)) if b == d:
                yield f"{name}: changed in {ENGLISH.name} only"
            case (a, _, (c, _)) if a == c:
                yield f"{name}: changed in {KOREAN.name} only"
            case _:
                yield f"{name}: changed in both; once they agree, python -m tests.translation records it"


def facts(section: Section) -> tuple[Counter[str], set[str]]:
    """Return what no translation changes: code, commands and links; and the numbers."""
    text, found = section.text.replace(KOREAN.name, ENGLISH.name), Counter[str]()
    for block in re.findall(r"^```\w*\n.*?^```", text, re.MULTILINE | re.DOTALL):
        found.update(line.partition("  #")[0].rstrip() for line in block.splitlines())
        text = text.replace(block, "")
    for pattern in (r"`[^`]+`", r"(?<=\]\()[^)]+(?=\))", r'(?<=(?:src|set)=")[^"]+(?=")'):
        found.update(re.findall(pattern, text))
        text = re.sub(pattern, "", text)
    return found, set(re.findall(r"\d[\d,.]*\d|\d", text))


def main() -> None:
    pairs = zip(sections(ENGLISH.read_text("utf-8")), sections(KOREAN.read_text("utf-8")), strict=True)
    record = {ours.heading: (ours.digest(), theirs.digest()) for ours, theirs in pairs}
    RECORD.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
