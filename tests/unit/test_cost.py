"""What a stack costs: from prices, measured figures and a workload."""

import re
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from app.domain.sending import _RECORDED_AFTER
from infra.cost.measured import Measured, as_toml, measured
from infra.cost.model import CPU_MB, PERIOD_MS, SUM, Model, takes
from infra.cost.prices import NAMES, AtLeast, Price, Prices, regions, times, total
from infra.cost.scenario import Ours, Workload
from infra.cost.tables import Table, as_markdown, cheapest, leanest, price_table, tables
from tests.template import source

TOKENS = {"Admission": "token", "TokenIssuer": "https://idp.example.com/", "TokenAudience": "switchboard"}

FREE = {name: Price(0.0, "million", "", "") for name in NAMES}


def a_model(*, only: str | None = None, usd: float = 1.0, per: str = "million", **work: Any) -> Model:
    """Return a model in which everything is free, but *only* one thing."""
    prices = regions()["us-east-1"] if only is None else FREE | {only: Price(usd, per, "", "")}
    return Model(Prices(prices), measured(), Workload()._replace(**work))


@pytest.fixture
def stack() -> Ours:
    return Ours.of({})


def test_a_sum_that_lacks_a_price_is_the_least_that_it_can_be() -> None:
    prices = Prices({"event": Price(1.0, "million", "", "")})

    assert prices.of("event", 2_000_000) == 2.0
    assert prices.of("schedule", 1) is None
    assert prices.of("schedule", 0) == 0  # what is not used needs no price
    assert total(1.0, 2.0) == 3.0
    assert total(None, None) is None
    assert isinstance(total(1.0, None), AtLeast)
    assert isinstance(times(total(1.0, total(1.0, None)), 2), AtLeast)
    assert not isinstance(total(1.0, 2.0), AtLeast)


def test_every_price_of_a_region_is_of_a_known_name_and_says_where_it_was_read() -> None:
    for prices in regions().values():
        assert prices.keys() <= set(NAMES)
        for price in prices.values():
            assert price.usd > 0
            assert price.page.startswith("https://aws.amazon.com/")
            assert re.search(r"\b20\d\d-\d\d-\d\d\b", price.read_from)
            assert price.is_weak or re.search(r"https://|^[\w-]+/[\w.-]+, ", price.read_from), price


def test_the_first_region_has_every_price() -> None:
    (region, prices), *_ = regions().items()

    assert region == "us-east-1"
    assert prices.keys() == set(NAMES)


@pytest.mark.parametrize(
    ("parameters", "indexes"),
    [({}, 2), ({"AccountIndex": "false"}, 1), ({"ClientIndex": "false", "AccountIndex": "false"}, 0)],
)
def test_each_index_costs_a_write_at_a_connect_and_at_a_disconnect(
    parameters: dict[str, str], indexes: int
) -> None:
    rows = a_model(only="dynamodb_write").lifecycles(Ours.of(parameters))

    assert rows["DynamoDB, the connection's item"] == 2
    assert rows["DynamoDB, its indexes"] == 2 * indexes


def coming_back(model: Model, **parameters: str) -> dict[str, float]:
    rows = model.lifecycles(Ours.of(parameters))
    return {name: amount or 0 for name, amount in rows.items() if name.startswith("coming back")}


def test_a_client_that_comes_back_costs_two_messages_of_the_queue_two_invocations_and_what_it_is_told() -> (
    None
):
    requests = coming_back(a_model(only="sqs_request"))
    invocations = coming_back(a_model(only="lambda_request"))
    messages = coming_back(a_model(only="gateway_message"))

    assert sum(requests.values()) == pytest.approx(2 * 3)
    assert sum(invocations.values()) == pytest.approx(2)
    assert sum(messages.values()) == pytest.approx(1)


def test_what_comes_back_costs_by_its_share_and_nothing_without_a_history() -> None:
    all_of_them, half = (sum(coming_back(a_model(returning=share)).values()) for share in (1, 0.5))

    assert half == pytest.approx(all_of_them / 2)
    assert not any(coming_back(a_model(returning=0)).values())
    assert not any(coming_back(a_model(), HistoryMinutes="0").values())


def test_a_batch_of_the_stream_shares_its_invocations(stack: Ours) -> None:
    row = "Lambda, the stream's functions"

    alone = a_model(only="lambda_request").lifecycles(stack)[row]
    together = a_model(only="lambda_request", batch=10).lifecycles(stack)[row]

    assert alone == 4
    assert together == pytest.approx(0.4)


def test_what_is_billed_grows_with_memory_only_while_the_function_waits() -> None:
    model = a_model(only="lambda_x86_64", usd=1.0, per="GB-s", store_ms=0, cold=0)
    work = replace(model, measured=Measured({}, {**_only_cpu(50 * PERIOD_MS)}, {}))
    small, large = (
        work.handshakes(Ours.of({"MemorySize": str(size)}), plain=False) for size in (CPU_MB // 2, CPU_MB)
    )
    waiting = replace(work, measured=Measured({}, {**_only_cpu(0)}, {}), work=work.work._replace(store_ms=8))
    cheap, dear = (waiting.handshakes(Ours.of({"MemorySize": str(size)}), plain=False) for size in (256, 512))

    assert small == pytest.approx(large, rel=0.01)
    assert dear == 2 * (cheap or 0)


def _only_cpu(milliseconds: float) -> dict[str, dict[str, float]]:
    figures = {"cpu_ms": milliseconds, "cold_cpu_ms": milliseconds}
    return {"connect": figures, "disconnect": figures}


@pytest.mark.parametrize(
    ("cpu", "time"),
    [
        (0, 0),
        (PERIOD_MS / 4 - 0.1, PERIOD_MS / 4 - 0.1),  # its quota suffices
        (PERIOD_MS / 4 + 1, PERIOD_MS + 1),
        (PERIOD_MS / 2 - 0.1, PERIOD_MS + PERIOD_MS / 4 - 0.1),
        (PERIOD_MS * 5 - 0.1, PERIOD_MS * 19 + PERIOD_MS / 4 - 0.1),
    ],
)
def test_a_function_with_a_quarter_of_a_processor_waits_once_it_has_used_up_its_quota(
    cpu: float, time: float
) -> None:
    assert takes(cpu, CPU_MB // 4) == pytest.approx(time, rel=0.01)


def test_a_function_with_a_whole_processor_does_not_wait() -> None:
    assert takes(1000, CPU_MB) == takes(1000, 2 * CPU_MB) == pytest.approx(1000)


def test_a_cold_start_takes_longer_with_less_memory() -> None:
    model = a_model()

    assert model.latency("connect", 128, cold=True) > model.latency("connect", 512, cold=True)
    assert model.latency("connect", 4096, cold=True) == model.latency("connect", CPU_MB, cold=True)


def test_the_cheapest_memory_is_no_dearer_than_any_other_that_suffices() -> None:
    model, stack = a_model(), Ours.of({})

    best = cheapest(model, stack, plain=False)

    others = [model.handshakes(stack.with_memory(size), plain=False) or 0 for size in (256, 512, 1024)]
    assert (model.handshakes(stack.with_memory(best), plain=False) or 0) <= min(others)
    assert best > model.measured.functions["changes_connect"]["memory_mb"]


def test_a_message_of_more_than_32_kb_is_charged_as_several(stack: Ours) -> None:
    row = "API Gateway, messages"

    assert a_model(only="gateway_message", message_bytes=32 * 1024).deliveries(stack)[row] == 1
    assert a_model(only="gateway_message", message_bytes=32 * 1024 + 1).deliveries(stack)[row] == 2


def test_a_message_costs_less_per_recipient_the_more_it_has(stack: Ours) -> None:
    few, many = (a_model(recipients=count).deliveries(stack)[SUM] for count in (1, 1000))

    assert (few or 0) > (many or 0) > 1


def test_the_progress_of_a_long_delivery_is_recorded_again_and_again(stack: Ours) -> None:
    assert _RECORDED_AFTER == 200
    few, many = (
        a_model(only="dynamodb_write", recipients=count).deliveries(stack)["DynamoDB, deliveries and history"]
        for count in (200, 1000)
    )

    assert few == pytest.approx((2 + 3) * 1e6 / 200 / 1e6)
    assert many == pytest.approx((2 + 3 + 4) * 1e6 / 1000 / 1e6)


def test_without_an_index_the_whole_table_is_read_for_a_message() -> None:
    row = "DynamoDB, reading the recipients"
    model = a_model(only="dynamodb_read", recipients=100, open=1000)

    by_index, by_scan = (
        model.deliveries(Ours.of({"AccountIndex": there_is_one}))[row] for there_is_one in ("true", "false")
    )

    assert by_scan == pytest.approx(10 * (by_index or 0))


def test_a_day_of_1000_connections_has_1_44_million_minutes_and_keep_alive_12_messages_an_hour_each() -> None:
    minutes = a_model(only="gateway_minute").open_connections(Ours.of({}))
    notices = a_model(only="gateway_message").open_connections(Ours.of({"KeepAlive": "true"}))

    assert minutes["API Gateway, connection minutes"] == pytest.approx(1.44)
    assert notices["API Gateway, keep-alive"] == pytest.approx(12 * 24 * 1000 / 1e6)


def test_the_leanest_parameters_exist_and_cost_less_but_for_reading_recipients() -> None:
    model, ours = a_model(), Ours.of({})
    lean = Ours.of(leanest(model, ours))

    for of in (model.lifecycles, model.open_connections, model.fixed):
        assert (of(lean)[SUM] or 0) < (of(ours)[SUM] or 0)


def test_the_leanest_memory_suffices_for_a_full_batch_of_the_stream() -> None:
    model = a_model()
    larger = {**model.measured.functions["changes_connect"], "memory_mb": 200}
    functions = {**model.measured.functions, "changes_connect": larger}

    lean = leanest(replace(model, measured=model.measured._replace(functions=functions)), Ours.of({}))

    assert int(lean["MemorySize"]) > 200


def test_lambdas_own_records_are_counted_for_the_functions_that_have_them() -> None:
    row = "logs, Lambda's own"
    model = a_model(only="logs_ingested", per="GB")

    assert (model.lifecycles(Ours.of({}))[row] or 0) > 0
    assert model.lifecycles(Ours.of({"SystemLogLevel": "WARN"}))[row] == 0


def test_stored_log_records_are_compressed_and_ingested_ones_are_not() -> None:
    row = "logs, API Gateway's"
    ingested, stored = (
        a_model(only=price, per="GB").lifecycles(Ours.of({"LogRetentionDays": "30"}))[row] or 0
        for price in ("logs_ingested", "logs_stored")
    )

    assert stored == pytest.approx(0.15 * ingested)


def titled(model: Model, words: str) -> Table:
    """Return the only table that has *words* in its title."""
    [table] = [table for title, table in tables(model, Ours.of({})) if words in title]
    return table


def test_no_function_has_no_deliveries_and_no_month() -> None:
    short = {line[0]: line[-1] for line in titled(a_model(), "Dollars per month")}

    assert short["1,000,000 deliveries"] == short[SUM] == "can't"
    assert short["1,000 connections are open"] == "10.80"


def test_the_free_tier_takes_off_no_more_than_a_stack_costs() -> None:
    model, stack = a_model(), Ours.of({})
    without = Ours.of({"CreateDashboard": "false", "HistoryMinutes": "0"})

    assert 0 < (model.free(without) or 0) < (model.free(stack) or 0) < (model.fixed(stack)[SUM] or 0)


def test_a_price_whose_copy_nobody_can_look_up_is_printed_with_a_question_mark() -> None:
    weak = Price(1.5, "million", "", "not named by the look-up: a note")

    lines = price_table({"here": {**FREE, "event": weak}})

    assert {line[1] for line in lines if line[0] == "event"} == {"1.50?"}
    assert {line[1] for line in lines if line[0] == "schedule"} == {"0.00"}


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("MemorySize", "127", "128 or more"),
        ("MemorySize", "10241", "10240 or less"),
        ("MemorySize", "5e2", "whole number"),
        ("Architecture", "mips", "one of x86_64, arm64"),
        ("LogRetentionDays", "2", "one of 1, 3"),
        ("PresenceBus", "a bus", "name of an event bus"),
    ],
)
def test_a_value_that_the_template_refuses_is_refused_with_its_reason(
    name: str, value: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Ours.of({name: value})


def test_a_parameter_that_the_template_has_not_is_named() -> None:
    with pytest.raises(ValueError, match="no parameter Memory"):
        Ours.of({"Memory": "128"})


def test_a_region_without_a_price_says_so() -> None:
    prices = {name: price for name, price in regions()["us-east-1"].items() if name != "dashboard"}
    model = Model(Prices(prices), measured(), Workload())
    titles = dict(tables(model, Ours.of({})))
    [fixed] = [table for title, table in titles.items() if "per stack" in title]

    by_row = {line[0]: line[1] for line in fixed}
    assert by_row["CloudWatch, the dashboard"] == "not known"
    assert by_row[SUM].startswith("> ")
    assert not by_row["CloudWatch, alarms"].startswith("> ")


def test_what_a_parameter_adds_is_not_known_without_its_price() -> None:
    prices = {name: price for name, price in regions()["us-east-1"].items() if name != "event"}
    model = Model(Prices(prices), measured(), Workload())
    lines = dict(tables(model, Ours.of({})))["What a parameter changes, in dollars"]

    [change] = [line[1] for line in lines if line[0] == "`PresenceBus=default`"]
    assert change == "not known"


def test_a_table_in_markdown_has_cells_of_one_width() -> None:
    text = as_markdown([["", "a"], ["row", "12.34"]])

    assert text == "|     |     a |\n| --- | ----: |\n| row | 12.34 |"


def test_figures_are_written_as_they_are_read() -> None:
    figures = measured()

    assert Measured(**tomllib.loads(as_toml(figures))) == figures


@pytest.mark.parametrize(
    ("parameters", "what", "more"),
    [
        ({"SweepSegments": "4"}, "metrics", 3),  # open connections by segment
        ({"HistoryMinutes": "0"}, "polled_queues", -1),
        (TOKENS, "schedules", 30 * 24 * 12),  # every 5 minutes
        ({"SweepMinutes": "10"}, "schedules", -30 * 24 * 6),
        ({"RouteMetrics": "true"}, "route_metrics", 2 * 6),
        ({"CreateDashboard": "false"}, "dashboards", -1),
        ({"ClientIndex": "false"}, "indexes", -1),
    ],
)
def test_the_template_says_what_a_stack_has(parameters: dict[str, str], what: str, more: int) -> None:
    usual, other = Ours.of({}).fixed, Ours.of(parameters).fixed

    assert getattr(other, what) == getattr(usual, what) + more


def test_an_alarm_on_a_quotient_is_charged_for_each_metric_in_it() -> None:
    alarms = [
        it["Properties"]
        for it in source()["Resources"].values()
        if it["Type"] == "AWS::CloudWatch::Alarm" and it.get("Condition") in {None, "KeepsHistory"}
    ]
    of_one_metric = [alarm for alarm in alarms if "MetricName" in alarm]

    assert len(of_one_metric) < len(alarms)
    assert Ours.of({}).fixed.alarms > len(alarms)
