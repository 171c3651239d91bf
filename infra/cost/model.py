"""What each design costs: per lifecycle, per delivery, per open connection and per stack."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, nan

from infra.cost.measured import Measured
from infra.cost.prices import Dollars, Prices, times, total
from infra.cost.scenario import MONTH, PLATFORM_TEXT_BYTES, Ours, Workload

CPU_MB = 1769
"""Memory with which a function has one whole processor (Lambda's developer guide, 'Configure memory')."""

PERIOD_MS = 20
"""In which a function that has used up its share of the processor waits for the next period.

AWS does not say so: observers saw it (pwrdrvr/lambda-dispatch, issue 246).
"""

_MILLION = 1_000_000
_FRAME = 32 * 1024  # bytes; each counts as a message
_RECORDED = 200
"""Recipients between two records of a delivery's progress (``_RECORDED_AFTER`` in app/domain/sending.py)."""
_SQS_REQUESTS = 3  # of a message: it is sent, received and deleted
_POLLS = 15 * 60 * 24 * MONTH
"""Of an idle queue in a month: by five pollers that wait for 20 s (getlift/lift, issue 132)."""
_MINUTES = 24 * 60  # of a day
_KB = 1024
_CATCH_UP_MB = 512  # CatchUpFunction's MemorySize in the template
_CATCH_UP_MESSAGES = 2  # in the queue for a client that comes back: one for each look
_STORED = 0.15  # of the bytes of log records: AWS's calculator takes them to be compressed so much

FREE = {"metric": 10, "alarm": 10, "dashboard": 3, "sqs_request": 1_000_000}
"""What an account has free in every month, not only in its first year (sources: infra/docs/cost.md)."""

CANNOT = nan
"""The amount for what a design can't do; so is each sum with it."""

SUM = "**together**"
"""The name of the last row."""

type Rows = Mapping[str, Dollars]
"""Dollars by what they are for; 0 where a design does not have it."""


@dataclass(frozen=True, slots=True)
class Model:
    """Prices, measured figures and the workload; each method returns its rows, the last one the sum."""

    prices: Prices
    measured: Measured
    work: Workload

    # ---- A million lifecycles ----------------------------------------------------------------------------

    def lifecycles(self, stack: Ours) -> Rows:
        """Return the rows of a million connections that come and go, of clients with one connection each.

        A share of them comes back: the client says what it has, and is sent what it has missed.
        """
        units, fixed = self.measured.units, stack.fixed
        both = [units[path] for path in ("open", "close")]
        handshakes = total(*(self._run(stack, name, waits=1) for name in ("connect", "disconnect")))
        presence = units["presence"]
        events = presence["events"]
        stream = total(
            self._run_batch(stack, "changes_connect", presence["calls_connect"]),
            self._run_batch(stack, "changes_disconnect", presence["calls_disconnect"]),
            *[self._run_batch(stack, name, 0) for name in ("presence_joined", "presence_left")],
        )
        logged = sum(
            self.measured.functions[name]["log_bytes"]
            for name in ("connect", "disconnect", "presence_joined", "presence_left")
        )
        platform = stack.platform_bytes("ConnectFunction", "DisconnectFunction")
        platform += (
            stack.platform_bytes(*["ChangesFunction"] * 2, *["PresenceFunction"] * 2) // self.work.batch
        )
        return _summed(
            {
                "DynamoDB, the connection's item": self._written(sum(it["table"] for it in both)),
                "DynamoDB, its indexes": self._written(sum(it["indexes"] for it in both) / 2 * fixed.indexes),
                "DynamoDB, presence": total(
                    self._written(presence["written"]),
                    self._read(presence["read"] + (stack.number("ConnectionsPerClient") > 0)),
                ),
                "Lambda, `$connect` and `$disconnect`": handshakes,
                "Lambda, the stream's functions": stream,
                "logs, the functions' records": self._logs(stack, logged),
                "logs, Lambda's own": self._logs(stack, platform),
                "logs, API Gateway's": self._logs(stack, 2 * stack.access_log_bytes),
                "events on a bus": self.prices.of(
                    "event", events * _MILLION * bool(stack.values["PresenceBus"])
                ),
            }
            | self._coming_back(stack)
        )

    def _coming_back(self, stack: Ours) -> dict[str, Dollars]:
        """Return what is added by clients that come back and have missed nothing."""
        share = self.work.returning * (stack.number("HistoryMinutes") > 0)
        units, functions, store = self.measured.units["catch_up"], self.measured.functions, self.work.store_ms
        looks = {
            "catch_up_first": (units["calls_first"] + 1) * store,  # and the call that puts the second one
            "catch_up_second": units["calls_second"] * store + self.work.gateway_ms,
        }
        calls = self.measured.units["presence"]["calls_connect"]
        lambdas = total(
            self._run_batch(stack, "changes_return", calls + 1),
            times(self._run_batch(stack, "changes_connect", calls), -1),
            *(
                self._invocations(stack, _MILLION, functions[name], waits=waits, memory=_CATCH_UP_MB)
                for name, waits in looks.items()
            ),
        )
        logged = sum(functions[name]["log_bytes"] for name in looks)
        logged += stack.platform_bytes(*["CatchUpFunction"] * len(looks))
        rows = {
            "DynamoDB": self._read(units["read"]),
            "SQS": self.prices.of("sqs_request", _CATCH_UP_MESSAGES * _SQS_REQUESTS * _MILLION),
            "Lambda": lambdas,
            "logs": self._logs(stack, logged),
            "API Gateway": total(
                self.prices.of("gateway_message", _MILLION),
                self.prices.of("transfer_out", units["sent_bytes"] * _MILLION),
            ),
        }
        return {
            f"coming back: {name}": times(amount, share) if share else 0.0 for name, amount in rows.items()
        }

    def plain_lifecycles(self, stack: Ours) -> Rows:
        """Return the same of the plain function, with the memory of *stack*."""
        table = sum(self.measured.units[path]["table"] for path in ("open", "close"))
        functions = [self._run(stack, name, waits=1) for name in ("plain_connect", "plain_disconnect")]
        return _summed(
            {
                "DynamoDB, the connection's item": self._written(table),
                "Lambda, `$connect` and `$disconnect`": total(*functions),
                "logs, Lambda's own": self._logs(stack, 2 * PLATFORM_TEXT_BYTES),
            }
        )

    def bare_lifecycles(self) -> Rows:
        """Return the same of API Gateway's integration with DynamoDB."""
        table = sum(self.measured.units[path]["table"] for path in ("open", "close"))
        return _summed({"DynamoDB, the connection's item": self._written(table)})

    # ---- A million messages to clients -------------------------------------------------------------------

    def deliveries(self, stack: Ours) -> Rows:
        """Return the rows of a million deliveries, in messages to so many recipients each."""
        work, units, functions = self.work, self.measured.units, self.measured.functions
        to = work.recipients
        keeps = stack.number("HistoryMinutes") > 0
        searched = to if stack.is_on("AccountIndex") else max(to, work.open)
        read = units["recipients"]["read"] / 100 * searched
        written = units["delivery"]["written"] + (to - 1) // _RECORDED * units["progress"]["written"]
        written += units["history"]["written"] * ceil(work.message_bytes / _KB) * keeps
        calls = 1 + units["delivery"]["calls"] + units["history"]["calls"] * keeps
        sending = max(to * functions["recipient"]["cpu_ms"], to / stack.number("SendRate") * 1000)
        waits = calls * work.store_ms + work.gateway_ms + sending
        messages = _MILLION / to
        logged = functions["send"]["log_bytes"] + stack.platform_bytes("SendFunction")
        return _summed(
            self._gateway()
            | {
                "DynamoDB, reading the recipients": self.prices.of("dynamodb_read", read * messages),
                "DynamoDB, deliveries and history": self.prices.of("dynamodb_write", written * messages),
                "SQS": self.prices.of("sqs_request", _SQS_REQUESTS * messages),
                "Lambda, sending": self._invocations(
                    stack, messages, functions["send"], waits=waits, memory=CPU_MB
                ),
                "logs, the functions' records": self._logs(stack, logged / to),
            }
        )

    def plain_deliveries(self, stack: Ours) -> Rows:
        """Return the same of a function that scans its table and posts to one client after the other."""
        work, functions = self.work, self.measured.functions
        to, messages = work.recipients, _MILLION / work.recipients
        read = self.measured.units["plain_scan"]["read"] / 100 * max(to, work.open)
        cpu = functions["plain_recipient"]["cpu_ms"]
        post = max(cpu + work.gateway_ms, cpu / _share(stack.memory))  # it waits in each period
        figures = functions["plain_connect"]
        return _summed(
            self._gateway()
            | {
                "DynamoDB, reading the recipients": self.prices.of("dynamodb_read", read * messages),
                "Lambda, sending": self._invocations(
                    stack, messages, figures, waits=work.store_ms + to * post, memory=stack.memory
                ),
                "logs, the functions' records": self._logs(stack, PLATFORM_TEXT_BYTES / to),
            }
        )

    def bare_deliveries(self) -> Rows:
        """Return that no function can't send."""
        return {SUM: CANNOT}

    def _gateway(self) -> dict[str, Dollars]:
        frames = ceil(self.work.message_bytes / _FRAME)
        return {
            "API Gateway, messages": self.prices.of("gateway_message", frames * _MILLION),
            "transfer to the Internet": self.prices.of("transfer_out", self.work.message_bytes * _MILLION),
        }

    # ---- 1,000 open connections, for a day ---------------------------------------------------------------

    def open_connections(self, stack: Ours) -> Rows:
        """Return the rows of 1,000 connections that stay open for a day, one after the other."""
        units, functions, count = self.measured.units, self.measured.functions, 1000
        sweeps = _MINUTES / stack.number("SweepMinutes")
        of_each = count / stack.number("SweepSegments")
        read = units["scan"]["read"] / 100 * of_each
        probing = max(of_each * functions["probe"]["cpu_ms"], of_each / stack.number("SweepRate") * 1000)
        waits = self.work.store_ms + self.work.gateway_ms + probing
        logged = functions["sweep"]["log_bytes"] + stack.platform_bytes("SweepFunction")
        notices = sweeps * of_each * stack.is_on("KeepAlive")
        return _summed(
            self._connection_minutes(count)
            | {
                "API Gateway, keep-alive": self.prices.of("gateway_message", notices),
                "DynamoDB, the sweep": self.prices.of("dynamodb_read", read * sweeps),
                "Lambda, the sweep": self._invocations(
                    stack, sweeps, functions["sweep"], waits=waits, memory=CPU_MB
                ),
                "logs, the functions' records": self._logs(stack, logged, count=sweeps),
            }
        )

    def bare_open_connections(self) -> Rows:
        """Return the same without a sweep."""
        return _summed(self._connection_minutes(1000))

    def _connection_minutes(self, count: int) -> dict[str, Dollars]:
        return {"API Gateway, connection minutes": self.prices.of("gateway_minute", count * _MINUTES)}

    # ---- The stack ---------------------------------------------------------------------------------------

    def fixed(self, stack: Ours) -> Rows:
        """Return the rows of a stack for a month, whatever its traffic."""
        fixed = stack.fixed
        return _summed(
            {
                "CloudWatch, metrics of log records": self.prices.of("metric", fixed.metrics),
                "CloudWatch, metrics by route": self.prices.of("metric", fixed.route_metrics),
                "CloudWatch, alarms": self.prices.of("alarm", fixed.alarms),
                "CloudWatch, the dashboard": self.prices.of("dashboard", fixed.dashboards),
                "SQS, polling of idle queues": self.prices.of("sqs_request", fixed.polled_queues * _POLLS),
                "the schedules": self.prices.of("schedule", fixed.schedules),
            }
        )

    def free(self, stack: Ours) -> Dollars:
        """Return what AWS's free tier takes off that, in an account with this stack alone."""
        fixed = stack.fixed
        used = {
            "metric": fixed.metrics + fixed.route_metrics,
            "alarm": fixed.alarms,
            "dashboard": fixed.dashboards,
            "sqs_request": fixed.polled_queues * _POLLS,
        }
        return total(*(self.prices.of(name, min(number, FREE[name])) for name, number in used.items()))

    # ---- Parts -------------------------------------------------------------------------------------------

    def latency(self, name: str, memory: int, *, cold: bool) -> int:
        """Return the milliseconds that are billed for an invocation that makes one call to the store."""
        cpu = self.measured.functions[name]["cold_cpu_ms" if cold else "cpu_ms"]
        return ceil(takes(cpu, memory) + self.work.store_ms)

    def handshakes(self, stack: Ours, *, plain: bool) -> Dollars:
        """Return what a million `$connect` and `$disconnect` cost at Lambda."""
        names = ("plain_connect", "plain_disconnect") if plain else ("connect", "disconnect")
        return total(*(self._run(stack, name, waits=1) for name in names))

    def _run(self, stack: Ours, name: str, waits: float) -> Dollars:
        """Return what a million invocations cost that make so many calls to the store."""
        figures = self.measured.functions[name]
        waiting = waits * self.work.store_ms
        return self._invocations(stack, _MILLION, figures, waits=waiting, memory=stack.memory)

    def _run_batch(self, stack: Ours, name: str, waits: float) -> Dollars:
        """Return what a million records cost, so many in an invocation."""
        figures, batch = self.measured.functions[name], self.work.batch
        warm = {**figures, "cpu_ms": figures["cpu_ms"] * batch}
        waiting = waits * self.work.store_ms * batch
        return self._invocations(stack, _MILLION / batch, warm, waits=waiting, memory=stack.memory)

    def _invocations(
        self, stack: Ours, count: float, figures: Mapping[str, float], *, waits: float, memory: int
    ) -> Dollars:
        warm, cold = (ceil(takes(figures[cpu], memory) + waits) for cpu in ("cpu_ms", "cold_cpu_ms"))
        mean = (1 - self.work.cold) * warm + self.work.cold * cold
        gigabyte_seconds = count * mean / 1000 * memory / 1024
        return total(
            self.prices.of("lambda_request", count),
            self.prices.of(f"lambda_{stack.architecture}", gigabyte_seconds),
        )

    def _logs(self, stack: Ours, size: float, count: float = _MILLION) -> Dollars:
        """Return what records of that *size* cost, their storage included."""
        months = stack.number("LogRetentionDays") / MONTH
        return total(
            self.prices.of("logs_ingested", size * count),
            self.prices.of("logs_stored", size * _STORED * count * months),
        )

    def _written(self, units: float) -> Dollars:
        return self.prices.of("dynamodb_write", units * _MILLION)

    def _read(self, units: float) -> Dollars:
        return self.prices.of("dynamodb_read", units * _MILLION)


def takes(cpu: float, memory: int) -> float:
    """Return the milliseconds that an invocation with so many of CPU takes, its waits left out."""
    quota = _share(memory) * PERIOD_MS
    whole = max(0, ceil(cpu / quota) - 1)  # periods of which it uses up its quota, and waits for the next one
    return whole * PERIOD_MS + cpu - whole * quota


def _share(memory: int) -> float:
    """Return the share of a processor; our functions use one at most."""
    return min(1.0, memory / CPU_MB)


def _summed(rows: Mapping[str, Dollars]) -> Rows:
    return {**rows, SUM: total(*rows.values())}
