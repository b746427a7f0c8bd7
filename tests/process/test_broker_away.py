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
PER_SECOND = 40
RECOVER_LIMIT_SECONDS = 30.0
MEGABYTE = 1024 * 1024
THROTTLED = 89
"""THROTTLING_QUOTA_EXCEEDED, which aiokafka does not know."""


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
        """Stops offering and waits until everything accepted is called back and acknowledged."""
        load.stop_offering()
        await load.resolve()
        await watch.until_called_back()

        async def outbox_is_empty() -> bool:
            return bool((await self.snapshot())["outbox"] == {"depth": 0, "parked": 0})

        await until(outbox_is_empty, what="an empty outbox")
        await watch.read_to_end()
        load.check()
        return self.ledger.report()

    async def count_unfinished(self) -> int:
        now = await self.snapshot()
        return int(now["queue"]["depth"] + now["in_flight"] + now["outbox"]["depth"])

    async def until_unfinished(self, least: int) -> None:
        """Waits until so many accepted requests have no acknowledged callback."""

        async def enough() -> bool:
            return await self.count_unfinished() >= least

        await until(enough, what=f"{least} unfinished requests")

    async def snapshot(self) -> dict[str, Any]:
        async with open_client(self.service.ready["url"]) as client:
            return dict((await client.get("/admin/v1/snapshot")).json())

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.service.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024


MakeLine = Callable[..., Any]


@pytest.fixture
def make_line(launcher: Any, tmp_path: Path) -> MakeLine:
    """Starts broker, provider and service; settings are the service's."""

    async def make(topics: int = 1, **settings: str) -> Line:
        broker = launcher.start("simulator.broker", "--port", "0")
        provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "50")
        control = BrokerControl(Path(broker.ready["control"]))
        names = [f"results.{uuid4().hex}" for _ in range(topics)]
        await control.create_topics([TopicSpec(name, PARTITIONS) for name in names])
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


async def test_outage_with_room_in_the_queue_is_ridden_out(make_line: MakeLine) -> None:
    """While the broker is away requests are accepted; when it is back their callbacks are delivered once."""
    line = await make_line()
    async with line.loaded(PER_SECOND) as (load, watch):
        await until(lambda: watch.records >= 10, what="callbacks before the outage")
        await line.control.down()
        await line.until_unfinished(40)
        await line.control.up()
        report = await line.finish(load, watch)
    assert load.ends().keys() == {"acked"}
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)


@pytest.mark.long
async def test_outage_of_two_minutes_leaves_memory_and_acceptance_as_they_were(
    make_line: MakeLine, record_figures: Callable[[str], None]
) -> None:
    """Two minutes without the broker at 300 requests a second; all is delivered soon after its return."""
    away_seconds, per_second, before_seconds = 120.0, 300.0, 20.0
    line = await make_line(QUEUE_MAX_SIZE="60000")
    async with line.loaded(per_second) as (load, watch):
        await asyncio.sleep(before_seconds)
        settled = time.monotonic()
        await asyncio.sleep(before_seconds)
        memory_before, went_down = line.resident_bytes(), time.monotonic()
        await line.control.down()
        await asyncio.sleep(away_seconds)
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
    line = await make_line(QUEUE_MAX_SIZE="40")
    async with line.loaded(PER_SECOND, resend_refused=False) as (load, watch):
        await until(lambda: watch.records >= 10, what="callbacks before the outage")
        await line.control.down()
        await line.until_unfinished(39)
        await until(lambda: "503 LLM_QUEUE_FULL" in load.ends(), what="a full queue")
        await line.control.up()
        accepted = load.accepted
        await until(lambda: load.accepted > accepted, what="acceptance after the return")
        report = await line.finish(load, watch)
    assert load.ends().keys() == {"acked", "503 LLM_QUEUE_FULL"}
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)


async def make_slow(control: BrokerControl) -> None:
    await control.slow(500)


async def cut_connections(control: BrokerControl) -> None:
    for _ in range(5):
        await control.cut()
        await asyncio.sleep(0.1)


async def lose_answers(control: BrokerControl) -> None:
    await control.lose_answers(1)


async def refuse_for_a_while(control: BrokerControl) -> None:
    """Another leader, too few replicas, timeouts."""
    for code in ("NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT", THROTTLED):
        await control.error(code, 2)


async def confuse_sequences(control: BrokerControl) -> None:
    """The broker does not know the producer any more."""
    for code in ("OUT_OF_ORDER_SEQUENCE_NUMBER", "INVALID_PRODUCER_EPOCH", "UNKNOWN_SERVER_ERROR"):
        await control.error(code, 2)
        await asyncio.sleep(0.2)


async def flap(control: BrokerControl) -> None:
    for _ in range(5):
        await control.down()
        await asyncio.sleep(0.1)
        await control.up()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("faults", "repeats"),
    [
        ((make_slow, refuse_for_a_while, confuse_sequences), False),
        # The embedded broker checks no sequences: it cannot recognize what is sent again.
        ((cut_connections, lose_answers, flap), True),
    ],
    ids=["answers arrive", "answers are lost"],
)
async def test_broker_in_trouble_loses_and_changes_nothing(
    make_line: MakeLine, faults: tuple[Callable[[BrokerControl], Any], ...], repeats: bool
) -> None:
    """Under load each accepted request has one outcome; only lost acknowledgements repeat its callback."""
    line = await make_line(topics=2)
    async with line.loaded(PER_SECOND) as (load, watch):
        await until(lambda: watch.records >= 10, what="callbacks before the fault")
        for fault in faults:
            offered, records = load.offered, watch.records
            await fault(line.control)
            await until(
                lambda offered=offered, records=records: (
                    load.offered >= offered + 20 and watch.records >= records + 20
                ),
                what=f"requests and callbacks after {fault.__name__}",
            )
            await line.control.slow(0)
        report = await line.finish(load, watch)
    assert load.ends().keys() == {"acked"}
    assert (report.missing, report.conflicting, report.orphan, report.corrupt) == (0, 0, 0, 0)
    assert repeats or report.duplicate == 0


async def test_callback_refused_for_good_is_parked_in_nobodys_way_and_can_be_sent_again(
    make_line: MakeLine,
) -> None:
    """A topic that disappears: its callbacks are parked with the reason, the others flow, resend delivers."""
    line = await make_line(topics=2)
    gone, good = line.topics
    async with (
        open_client(line.service.ready["url"]) as client,
        line.loaded(PER_SECOND, resend_refused=False) as (load, watch),
    ):

        def count_good() -> int:
            return sum(end for (topic, _), end in watch.topic_ends.items() if topic == good)

        await until(lambda: watch.records >= 10, what="callbacks before the fault")
        # What is called back before the service knows that the topic is gone reaches it still.
        (await client.post("/admin/v1/providers/openai/hold", json={})).raise_for_status()

        async def are_requests_held() -> bool:
            return bool((await line.snapshot())["queue"]["depth"] >= 10)

        await until(are_requests_held, what="ten held requests")
        await line.control.topic_error(gone, "UNKNOWN_TOPIC_OR_PARTITION")
        await until(
            lambda: "422 LLM_INVALID_CALLBACK_TOPIC" in load.ends(),
            what="a refusal of the topic that is gone",
        )
        (await client.post("/admin/v1/providers/openai/release", json={})).raise_for_status()

        async def some_are_parked() -> bool:
            return bool((await line.snapshot())["outbox"]["parked"] >= 1)

        await until(some_are_parked, what="a parked callback")
        good_before = count_good()
        await until(lambda: count_good() >= good_before + 10, what="callbacks of the other topic")
        load.stop_offering()
        await load.resolve()

        async def nothing_is_on_its_way() -> bool:
            return await line.count_unfinished() == 0

        await until(nothing_is_on_its_way, what="every callback sent or parked")
        parked = (await line.snapshot())["outbox"]["parked"]
        await line.control.topic_error(gone, None)
        listed = (await client.get("/admin/v1/undelivered")).json()
        resent = await client.post("/admin/v1/undelivered/resend", json={"all": True})
        report = await line.finish(load, watch)
    assert listed["total"] == parked
    assert {item["reason"] for item in listed["items"]} == {"UNKNOWN_TOPIC_OR_PARTITION"}
    assert {item["topic"] for item in listed["items"]} == {gone}
    assert resent.status_code == 202
    assert line.ledger.find(Verdict.MISSING) == []
    assert (report.conflicting, report.orphan, report.corrupt) == (0, 0, 0)
