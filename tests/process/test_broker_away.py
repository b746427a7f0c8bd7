"""The broker away, slow, cut off or refusing, under load: nothing accepted is lost, and all flows again."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from simulator.broker.control import BrokerControl, TopicSpec
from simulator.load.ledger import LedgerReport, Verdict
from tests.process.load import Load, SharedLedger, TopicWatch
from tests.waiting import open_client, until

PARTITIONS = 12
RECOVER_LIMIT_SECONDS = 30.0
MEGABYTE = 1024 * 1024
THROTTLED = 89  # THROTTLING_QUOTA_EXCEEDED, which aiokafka does not know


@dataclass
class Line:
    """A service with a broker and a fake provider of its own, and the ledger of what it did."""

    service: Any
    control: BrokerControl
    bootstrap_servers: str
    topics: list[str]
    ledger: SharedLedger = field(default_factory=SharedLedger)

    @asynccontextmanager
    async def loaded(self, per_second: float, **options: Any) -> AsyncIterator[tuple[Load, TopicWatch]]:
        """Load on the service, its topics watched."""
        url = self.service.ready["url"]
        with TopicWatch(self.bootstrap_servers, self.topics, self.ledger) as watch:
            async with Load([url], self.topics, self.ledger, per_second=per_second, **options) as load:
                yield load, watch

    async def finish(self, load: Load, watch: TopicWatch) -> LedgerReport:
        """Stops offering, waits until everything accepted is called back, and judges."""
        load.stop_offering()
        await load.resolve()
        await watch.until_called_back()
        load.check()
        return self.ledger.report()

    async def snapshot(self) -> dict[str, Any]:
        """The live figures."""
        async with open_client(self.service.ready["url"]) as client:
            return dict((await client.get("/admin/v1/snapshot")).json())

    def resident_bytes(self) -> int:
        """How much memory the service holds."""
        status = Path(f"/proc/{self.service.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024


MakeLine = Callable[..., Any]


@pytest.fixture
def make_line(launcher: Any, tmp_path: Path) -> MakeLine:
    """Starts broker, provider and service; settings are the service's."""

    async def make(
        topics: int = 1, *, broker_up: bool = True, latency_p50_ms: int = 50, **settings: str
    ) -> Line:
        broker = launcher.start("simulator.broker", "--port", "0")
        provider = launcher.start(
            "simulator.provider", "--port", "0", "--latency-p50-ms", str(latency_p50_ms)
        )
        control = BrokerControl(Path(broker.ready["control"]))
        names = [f"results.{uuid4().hex}" for _ in range(topics)]
        await control.create_topics([TopicSpec(name, PARTITIONS) for name in names])
        if not broker_up:
            await control.down()
        environment = {
            "PORT": "0",
            "KAFKA_BOOTSTRAP_SERVERS": broker.ready["bootstrap_servers"],
            "QUEUE_PATH": str(tmp_path / "queue.db"),
            "OPENAI_API_KEY": "fake-key",
            "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
            **settings,
        }
        service = launcher.start(
            "service", env={f"LLM_PROVIDER_SERVICE_{name}": value for name, value in environment.items()}
        )
        return Line(service, control, broker.ready["bootstrap_servers"], names)

    return make


def p99(seconds: list[float]) -> float:
    """The 99th percentile of sorted durations."""
    return statistics.quantiles(seconds, n=100)[98]


async def wait(seconds: float) -> None:
    """Lets the load go on; what passes here is the subject, not a condition."""
    await asyncio.sleep(seconds)


async def test_outage_with_room_in_the_queue_is_ridden_out(make_line: MakeLine) -> None:
    """While the broker is away requests are accepted; when it is back their callbacks are delivered once."""
    line = await make_line()
    async with line.loaded(60) as (load, watch):
        await until(lambda: watch.records >= 20, what="callbacks before the outage")
        await line.control.down()
        went_down = load.accepted
        await until(lambda: load.accepted >= went_down + 100, what="acceptance during the outage")
        during = await line.snapshot()
        await line.control.up()
        report = await line.finish(load, watch)
    assert load.ends().keys() == {"acked"}
    assert during["queue"]["depth"] + during["in_flight"] + during["outbox"]["depth"] >= 100
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)
    assert (await line.snapshot())["outbox"] == {"depth": 0, "parked": 0}


@pytest.mark.long
async def test_outage_of_two_minutes_leaves_memory_and_acceptance_as_they_were(
    make_line: MakeLine, record_figures: Callable[[str], None]
) -> None:
    """Two minutes without the broker at 300 requests a second; all is delivered soon after its return."""
    away_seconds, per_second, before_seconds = 120.0, 300.0, 20.0
    line = await make_line(QUEUE_MAX_SIZE="60000")
    async with line.loaded(per_second) as (load, watch):
        await wait(before_seconds)
        settled = time.monotonic()
        await wait(before_seconds)
        memory_before, went_down = line.resident_bytes(), time.monotonic()
        await line.control.down()
        await wait(away_seconds)
        during = await line.snapshot()
        came_up = time.monotonic()
        await line.control.up()
        load.stop_offering()
        report = await line.finish(load, watch)
        recovered_seconds = watch.last_record_at - came_up
    before = load.accept_seconds(settled, went_down)
    outage = load.accept_seconds(went_down, came_up)
    grown = line.resident_bytes() - memory_before
    after = await line.snapshot()
    record_figures(
        f"away {away_seconds:g} s at {per_second:g}/s: accepted {report.accepted}, "
        f"missing {report.missing}, identical copies {report.identical}, "
        f"conflicting {report.conflicting}; accept p99 before "
        f"{p99(before) * 1e3:.1f} ms, during {p99(outage) * 1e3:.1f} ms; outbox {during['outbox']['depth']}; "
        f"all delivered {recovered_seconds:.1f} s after the return; memory {grown / MEGABYTE:+.1f} MB; "
        f"load behind by at most {load.worst_lag_seconds:.2f} s"
    )
    assert load.ends().keys() == {"acked"}
    assert during["outbox"]["depth"] >= 0.8 * per_second * away_seconds
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)
    assert report.identical <= during["outbox"]["depth"] * 0.01 + per_second  # what was under way at the cut
    assert recovered_seconds < RECOVER_LIMIT_SECONDS
    assert grown < 50 * MEGABYTE
    assert after["totals"]["publish_failures"] > 0
    assert (after["outbox"]["depth"], after["outbox"]["parked"]) == (0, 0)


async def test_outage_beyond_the_limit_is_refused_at_the_door(make_line: MakeLine) -> None:
    """Callbacks that wait count against the queue's limit: then 503 with Retry-After, and no loss."""
    line = await make_line(QUEUE_MAX_SIZE="150")
    async with line.loaded(60, resend_refused=False) as (load, watch):
        await until(lambda: watch.records >= 20, what="callbacks before the outage")
        await line.control.down()
        await until(lambda: "503 LLM_QUEUE_FULL" in load.ends(), what="a full queue")
        held = await line.snapshot()
        await line.control.up()
        await until(lambda: load.attempts[-1].status == 202, what="acceptance after the return")
        report = await line.finish(load, watch)
    assert load.ends().keys() == {"acked", "503 LLM_QUEUE_FULL"}
    assert held["queue"]["depth"] + held["in_flight"] + held["outbox"]["depth"] >= 149
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)


async def make_slow(control: BrokerControl) -> None:
    """Every answer half a second late."""
    await control.slow(500)


async def cut_connections(control: BrokerControl) -> None:
    """Connections cut again and again, in the middle of whatever is under way."""
    for _ in range(10):
        await control.cut()
        await asyncio.sleep(0.2)


async def lose_answers(control: BrokerControl) -> None:
    """Requests reach the broker, its answers do not come back."""
    await control.lose_answers(2)


async def refuse_for_a_while(control: BrokerControl) -> None:
    """The broker is in trouble: another leader, too few replicas, time-outs."""
    for code in ("NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT", THROTTLED):
        await control.error(code, 5)


async def confuse_sequences(control: BrokerControl) -> None:
    """The broker does not know the producer any more."""
    for code in ("OUT_OF_ORDER_SEQUENCE_NUMBER", "INVALID_PRODUCER_EPOCH", "UNKNOWN_SERVER_ERROR"):
        await control.error(code, 2)
        await asyncio.sleep(0.5)


async def flap(control: BrokerControl) -> None:
    """Down and up again, ten times."""
    for _ in range(10):
        await control.down()
        await asyncio.sleep(0.1)
        await control.up()
        await asyncio.sleep(0.2)


ANSWERS_ARE_LOST = {cut_connections, lose_answers, flap}
"""Faults after which the broker itself cannot tell a repetition (the embedded one checks no sequences)."""


@pytest.mark.parametrize(
    "fault",
    [make_slow, cut_connections, lose_answers, refuse_for_a_while, confuse_sequences, flap],
    ids=lambda fault: fault.__name__,
)
async def test_broker_in_trouble_loses_and_changes_nothing(
    make_line: MakeLine, fault: Callable[[BrokerControl], Any]
) -> None:
    """Whatever the broker does under load: each accepted request has one answer; only the wire repeats it."""
    line = await make_line(topics=2)
    async with line.loaded(60) as (load, watch):
        await until(lambda: watch.records >= 20, what="callbacks before the fault")
        await fault(line.control)
        await until(lambda: load.accepted >= 400, what="400 accepted requests")
        await line.control.slow(0)
        report = await line.finish(load, watch)
    assert load.ends().keys() == {"acked"}
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)
    assert fault in ANSWERS_ARE_LOST or report.duplicate == 0
    assert (await line.snapshot())["outbox"] == {"depth": 0, "parked": 0}


async def test_callback_refused_for_good_is_parked_in_nobodys_way_and_can_be_sent_again(
    make_line: MakeLine,
) -> None:
    """A topic that disappears: its callbacks are parked with the reason, the others flow, resend delivers."""
    # The intake refuses a topic as soon as it is known to be gone: only what was accepted before meets the
    # refusal, so calls take long enough that there always is some.
    line = await make_line(topics=2, latency_p50_ms=1000)
    gone, good = line.topics
    async with line.loaded(40, resend_refused=False) as (load, watch):
        await until(lambda: watch.records >= 20, what="callbacks before the fault")
        await line.control.topic_error(gone, "UNKNOWN_TOPIC_OR_PARTITION")

        async def some_are_parked() -> bool:
            return bool((await line.snapshot())["outbox"]["parked"] >= 1)

        await until(some_are_parked, what="a parked callback")
        good_before = [end for place, end in watch.topic_ends.items() if place[0] == good]
        await until(
            lambda: (
                sum(end for place, end in watch.topic_ends.items() if place[0] == good)
                >= sum(good_before) + 40
            ),
            what="callbacks of the other topic",
        )
        load.stop_offering()
        await load.resolve()

        async def nothing_is_on_its_way() -> bool:
            now = await line.snapshot()
            return not (now["queue"]["depth"] or now["in_flight"] or now["outbox"]["depth"])

        await until(nothing_is_on_its_way, what="every callback sent or parked")
        parked = (await line.snapshot())["outbox"]["parked"]
        await line.control.topic_error(gone, None)
        url = line.service.ready["url"]
        async with open_client(url) as client:
            listed = (await client.get("/admin/v1/undelivered")).json()
            resent = await client.post("/admin/v1/undelivered/resend", json={"all": True})
        await watch.until_called_back()
        report = line.ledger.report()
    assert listed["total"] == parked
    assert {item["reason"] for item in listed["items"]} == {"UNKNOWN_TOPIC_OR_PARTITION"}
    assert {item["topic"] for item in listed["items"]} == {gone}
    assert resent.status_code == 202
    assert line.ledger.find(Verdict.MISSING) == []
    assert (report.conflicting, report.orphan, report.corrupt) == (0, 0, 0)
    assert (await line.snapshot())["outbox"] == {"depth": 0, "parked": 0}


async def test_start_while_the_broker_is_away(make_line: MakeLine) -> None:
    """A service that starts without a broker is ready, refuses what it cannot know, and then catches up."""
    line = await make_line(broker_up=False)
    await line.control.up()
    async with line.loaded(20) as (load, watch):
        await until(lambda: load.accepted >= 40, what="acceptance")
        report = await line.finish(load, watch)
    assert (report.missing, report.duplicate, report.corrupt) == (0, 0, 0)
