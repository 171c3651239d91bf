"""The page on cost has what ``make cost`` prints, and the measured records are as long as the real ones."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cost.__main__ import main
from infra.cost.measured import measured
from tests.builders import an_event

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "infra" / "docs" / "cost.md"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the tables that the command prints."""
    main(arguments)
    return tables_in(capsys.readouterr().out)


def tables_in(text: str) -> list[str]:
    return re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)


def test_the_page_has_the_tables_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    expected = [*printed(capsys), *printed(capsys, "--prices")]

    written = tables_in(PAGE.read_text())

    assert [table for table in expected if table not in written] == []


def test_the_readme_has_no_other_figures(capsys: pytest.CaptureFixture[str]) -> None:
    of_designs = [table for table in tables_in((ROOT / "README.md").read_text()) if "no function" in table]

    assert of_designs == printed(capsys)[:1]


def test_the_command_takes_numbers_a_region_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    usual = printed(capsys)
    chosen = printed(
        capsys,
        *("--region", "ap-northeast-2", "--open", "5_000", "--recipients", "1"),
        *("--set", "MemorySize=256", "--set", "Architecture=arm64"),
    )

    assert len(chosen) == len(usual)
    assert not set(chosen) & set(usual)


@pytest.mark.parametrize(
    "text",
    [
        *("--open -1", "--open x", "--open 1.5", f"--open {'9' * 400}", f"--open {'9' * 5000}", "--op 5"),
        *(
            "--lifecycles -1",
            "--deliveries -1",
            "--recipients 0",
            "--message-bytes 0",
            "--message-bytes 131073",
        ),
        *("--batch 0", "--batch 101", "--cold 1.1", "--cold -0.1", "--cold nan", "--cold inf", "--cold x"),
        *("--returning 2", "--returning -1", "--store-ms -1", "--store-ms nan", "--gateway-ms 1e9"),
        *("--region eu-nowhere-1", "--set Memory=1", "--set MemorySize", "--set MemorySize=", "--set =512"),
        *("--set MemorySize=64", "--set MemorySize=512MB", "--set Architecture=ARM", "--set KeepAlive=yes"),
        *("--set SweepMinutes=0", "--set SweepMinutes=31", "--set SendRate=0", "--set LogRetentionDays=2"),
        *("--set KeepAlive=true --set SweepMinutes=10", "--set Admission=token", "--set SnapStart=true"),
        *("--write --open 5", "--write --prices", "--write --set MemorySize=256"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = PAGE.read_text()

    with pytest.raises(SystemExit) as ending:
        main(text.split())

    *usage, sentence = capsys.readouterr().err.splitlines()
    assert ending.value.code == 2
    assert sentence.startswith("make cost: error: ")
    assert all(line.startswith(("usage: ", " ")) for line in usage)
    assert PAGE.read_text() == before


@pytest.mark.parametrize(
    "text",
    [
        "--open 0 --lifecycles 0 --deliveries 0",
        "--recipients 1_000_000 --message-bytes 131072 --batch 100 --cold 1 --returning 0",
        "--store-ms 0 --gateway-ms 0 --cold 0 --set MemorySize=128 --set HistoryMinutes=0",
        "--open 1_000_000_000_000 --deliveries 1_000_000_000_000",
    ],
)
def test_the_least_and_the_most_are_computed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(printed(capsys, *text.split())) == len(printed(capsys))


def test_the_measured_log_records_are_as_long_as_the_real_ones() -> None:
    events = [an_event("connect_browser"), an_event("disconnect_client_closed_1005")]
    events[1]["requestContext"]["connectionId"] = events[0]["requestContext"]["connectionId"]
    kinds = ["connect", "disconnect"]
    result = subprocess.run(
        [
            *(sys.executable, "-c", "import sys, invoked; invoked.main(*sys.argv[1:])"),
            *("app.entrypoints.aws_lambda.handler", "0"),
        ],
        input="".join(f"{json.dumps(pair)}\n" for pair in zip(kinds, events, strict=True)),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'benchmarks'}",
            "STORE": "memory",
            "AWS_REGION": "eu-central-1",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "INFO",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    for kind, size in json.loads(result.stdout)["log_bytes"].items():
        assert measured().functions[kind]["log_bytes"] == pytest.approx(size, rel=0.1), kind
