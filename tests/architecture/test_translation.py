"""README.ko.md says what README.md says."""

import json

import pytest

from tests.translation import ENGLISH, KOREAN, RECORD, Section, changed, facts, sections

PAIRS = list(zip(sections(ENGLISH.read_text("utf-8")), sections(KOREAN.read_text("utf-8")), strict=False))
A, B = Section("Try it", "## Try it\none"), Section("써 보기", "## 써 보기\n하나")
RECORDED = {"Try it": (A.digest(), B.digest())}


def test_no_section_has_changed_in_only_one_of_the_two() -> None:
    record = json.loads(RECORD.read_text("utf-8"))
    english, korean = (sections(file.read_text("utf-8")) for file in (ENGLISH, KOREAN))

    changes = list(changed(english, korean, {heading: tuple(both) for heading, both in record.items()}))

    assert changes == []


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[ours.heading for ours, _ in PAIRS])
def test_a_section_has_the_same_code_links_and_numbers_in_both(ours: Section, theirs: Section) -> None:
    (code, numbers), (code_there, numbers_there) = facts(ours), facts(theirs)

    assert code == code_there
    assert numbers - numbers_there == set()  # Korean has some in digits that English spells out


def test_each_links_to_the_other() -> None:
    assert "](README.ko.md)" in ENGLISH.read_text("utf-8")
    assert "](README.md)" in KOREAN.read_text("utf-8")


@pytest.mark.parametrize(
    ("english", "korean", "sentence"),
    [
        ([A._replace(text="two")], [B], "Try it (써 보기): changed in README.md only"),
        ([A], [B._replace(text="둘")], "Try it (써 보기): changed in README.ko.md only"),
        ([A._replace(text="two")], [B._replace(text="둘")], "Try it (써 보기): changed in both; "),
        ([A._replace(heading="New")], [B._replace(text="둘")], "New (써 보기): changed in both; "),
        ([A, A], [B], "Try it: only one of the two has it"),
    ],
)
def test_what_has_changed_is_named(english: list[Section], korean: list[Section], sentence: str) -> None:
    [change] = changed(english, korean, RECORDED)

    assert change.startswith(sentence)


def test_sections_that_agree_are_not_named() -> None:
    assert list(changed([A], [B], RECORDED)) == []


@pytest.mark.parametrize(
    "other",
    [
        "`make` takes 3 ms ([x](z)).\n```sh\nmake a  # one\n```",
        "`make` takes 4 ms ([x](y)).\n```sh\nmake a  # one\n```",
        "`mak` takes 3 ms ([x](y)).\n```sh\nmake a  # one\n```",
        "`make` takes 3 ms ([x](y)).\n```sh\nmake b  # one\n```",
    ],
)
def test_a_fact_that_differs_is_found(other: str) -> None:
    text = "`make` braucht 3 ms ([u](y)).\n```sh\nmake a  # eins\n```"

    assert facts(Section("", text)) != facts(Section("", other))
    assert facts(Section("", text)) == facts(Section("", "`make`: 3 ms ([x](y))\n```sh\nmake a  # uno\n```"))
