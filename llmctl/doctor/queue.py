"""The service's queue: what waits in it, what waits for the broker, what was given up, and its disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmctl.doctor.checks import Check, Section
from llmctl.doctor.service import ServiceFacts
from llmctl.doctor.words import say_bytes, say_count
from simulator.quantities import format_duration

GROUP = "queue"
NEARLY_FULL = 0.8
LONG_WAIT_SECONDS = 600.0
SCARCE_RESERVES = 10
"""A disk with less free than so many of the queue's reserves is soon full."""
_NAMES = ("waiting", "outbox", "undelivered", "unreadable", "disk")


def judge_queue(facts: ServiceFacts) -> list[Check]:
    """Every check of the group."""
    figures = facts.figures
    if figures is None:
        return [Section(GROUP).left_out(name, facts.why_no_figures) for name in _NAMES]
    try:
        return [
            _judge_waiting(figures),
            _judge_outbox(figures),
            _judge_undelivered(figures),
            _judge_quarantine(figures["queue"]),
            _judge_disk(figures["queue"]),
        ]
    except (KeyError, TypeError, ValueError):
        return [Section(GROUP).left_out(name, "the service's figures are not understood") for name in _NAMES]


def _judge_waiting(figures: Mapping[str, Any]) -> Check:
    section, queue, outbox = Section(GROUP), figures["queue"], figures["outbox"]
    depth, capacity = int(queue["depth"]), int(queue["capacity"])
    held = depth + int(figures["in_flight"]) + int(outbox["depth"]) + int(outbox["parked"])
    oldest_seconds = float(queue["oldest_age_seconds"])
    seen = f"{queue['backend']}: {depth:,} waiting"
    if depth:
        seen += f", the oldest for {format_duration(oldest_seconds)}"
    seen += f"; {held:,} of {capacity:,} places taken"
    if held >= capacity:
        return section.failed("waiting", f"{seen}: new requests are refused", "`llmctl monitor` shows why.")
    if held >= NEARLY_FULL * capacity:
        return section.warned(
            "waiting", seen, "`llmctl monitor` shows what holds them up; see QUEUE_MAX_SIZE."
        )
    if oldest_seconds > LONG_WAIT_SECONDS:
        return section.warned("waiting", seen, "`llmctl providers list` shows what is held or fails.")
    return section.passed("waiting", seen)


def _judge_outbox(figures: Mapping[str, Any]) -> Check:
    section, depth = Section(GROUP), int(figures["outbox"]["depth"])
    if not depth:
        return section.passed("outbox", "empty")
    seen = f"{say_count(depth, 'callback')} on the way"
    if float(figures["rates"]["published"]) > 0:
        return section.passed("outbox", seen)
    return section.warned(
        "outbox",
        f"{seen}, and none was delivered in the last 10 s",
        "Look at the broker and at the topics below; they flow by themselves once it takes them.",
    )


def _judge_undelivered(figures: Mapping[str, Any]) -> Check:
    section, parked = Section(GROUP), int(figures["outbox"]["parked"])
    if not parked:
        return section.passed("undelivered", "none")
    return section.warned(
        "undelivered",
        f"{say_count(parked, 'callback')} that the broker refused for good",
        "`llmctl undelivered list` says why, `llmctl undelivered resend` sends them again.",
    )


def _judge_quarantine(queue: Mapping[str, Any]) -> Check:
    section, quarantined = Section(GROUP), queue["quarantined"]
    count = int(quarantined["count"])
    if not count:
        return section.passed("unreadable", "none")
    return section.failed(
        "unreadable",
        f"{say_count(count, 'row')} of the queue file cannot be read ({quarantined['reason']}): set aside, "
        "and never called back",
        "The log names them; look at the rows with `unreadable` in the file, and restore them from a backup.",
    )


def _judge_disk(queue: Mapping[str, Any]) -> Check:
    section, disk = Section(GROUP), queue.get("disk")
    if queue["backend"] == "kafka":
        return section.left_out("disk", "the queue stands on Kafka")
    if not isinstance(disk, Mapping):
        return section.left_out("disk", "the service does not tell how much is free")
    free_bytes, reserve_bytes = int(disk["free_bytes"]), int(disk["reserve_bytes"])
    seen = f"{say_bytes(free_bytes)} free in {disk['folder']}, {say_bytes(reserve_bytes)} kept in reserve"
    advice = "Make room there, or give the queue another disk by QUEUE_PATH."
    if free_bytes < reserve_bytes:
        return section.failed("disk", f"{seen}: nothing new is accepted", advice)
    if free_bytes < SCARCE_RESERVES * reserve_bytes:
        return section.warned("disk", seen, advice)
    return section.passed("disk", seen)
