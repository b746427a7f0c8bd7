"""The service: does it answer, is it ready, who is let in, which release is it, what time has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmctl.doctor.asking import Reply
from llmctl.doctor.checks import Check, Section, Unknown
from llmctl.doctor.configuration import is_loopback
from llmctl.doctor.words import split_advice

GROUP = "service"
CLOCK_WARN_SECONDS = 2.0
CLOCK_FAIL_SECONDS = 60.0
NEEDS_OPERATOR = "the operators' routes are not open to us"
OUT_OF_REACH = "the service is out of reach"
_STRANGER = "what answers there is not this service"
_OK, _UNAUTHORIZED, _FORBIDDEN, _UNAVAILABLE = 200, 401, 403, 503


@dataclass(frozen=True)
class ServiceFacts:
    """What the service has answered."""

    url: str
    readiness: Reply | Unknown
    snapshot: Reply | Unknown
    providers: Reply | Unknown
    metrics: Reply | Unknown
    caller_token: bool = False
    operator_token: bool = False

    @property
    def figures(self) -> Mapping[str, Any] | None:
        """The snapshot, where it was had."""
        if isinstance(self.snapshot, Reply) and self.snapshot.is_good:
            return self.snapshot.document
        return None

    @property
    def why_no_figures(self) -> str:
        """Why checks that need them are left out."""
        if isinstance(self.readiness, Unknown):
            return OUT_OF_REACH
        return self.snapshot.reason if isinstance(self.snapshot, Unknown) else NEEDS_OPERATOR

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return isinstance(self.readiness, Reply) and self.readiness.is_good


def judge_service(facts: ServiceFacts, our_version: str) -> list[Check]:
    """Every check of the group."""
    if isinstance(facts.readiness, Unknown):
        return _judge_silence(facts.readiness)
    return [
        _judge_readiness(facts.readiness),
        _judge_its_broker(facts.readiness),
        _judge_callers(facts),
        _judge_operators(facts),
        _judge_version(facts, our_version),
        _judge_clock(facts),
        _judge_metrics(facts.metrics),
    ]


def _judge_silence(unknown: Unknown) -> list[Check]:
    section = Section(GROUP)
    names = ("its broker", "callers", "operators", "version", "clock", "metrics")
    if not unknown.out_of_reach:
        return [section.left_out(name, unknown.reason) for name in ("ready", *names)]
    first = section.failed("ready", *split_advice(unknown.reason, "Start it, or correct --url."))
    return [first, *(section.left_out(name, OUT_OF_REACH) for name in names)]


def _judge_readiness(reply: Reply) -> Check:
    section = Section(GROUP)
    if reply.is_good and reply.document.get("status") == "ready":
        return section.passed("ready", f"it takes requests; answered in {reply.seconds * 1000:.0f} ms")
    if reply.status != _UNAVAILABLE or "error" not in reply.document:
        return section.failed("ready", f"{_STRANGER} (HTTP {reply.status})", "Correct --url.")
    phase = _read_details(reply).get("phase")
    seen = reply.message.rstrip(".")
    if phase == "draining":
        return section.failed("ready", seen, "`llmctl drain --resume` opens its door again.")
    if phase == "starting":
        return section.failed("ready", seen, "Wait until it has started; its log says what it waits for.")
    return section.failed("ready", seen, "Look at its log.")


def _judge_its_broker(reply: Reply) -> Check:
    section = Section(GROUP)
    state = reply.document.get("broker") or _read_details(reply).get("broker")
    if state == "up":
        return section.passed("its broker", "the service reaches its Kafka")
    if state == "down":
        return section.failed(
            "its broker",
            "the service does not reach its Kafka: callbacks wait in its outbox",
            "Check KAFKA_BOOTSTRAP_SERVERS of the service, and the way there from its machine.",
        )
    return section.left_out("its broker", "the service does not tell")


def _judge_callers(facts: ServiceFacts) -> Check:
    section, reply = Section(GROUP), facts.providers
    if isinstance(reply, Unknown):
        return section.left_out("callers", reply.reason)
    if reply.is_good:
        return section.passed(
            "callers", "our token is known" if facts.caller_token else "no token is asked for"
        )
    if reply.status == _UNAUTHORIZED:
        advice = "Give one of API_TOKENS by --token, LLMCTL_TOKEN or the context."
        return section.failed("callers", _say_refusal(facts.caller_token), advice)
    if reply.status == _FORBIDDEN:
        advice = "Give a caller's by --token and the operator's by --admin-token."
        return section.warned("callers", "our token is an operator's", advice)
    return section.failed("callers", f"{_STRANGER} (HTTP {reply.status})", "Correct --url.")


def _judge_operators(facts: ServiceFacts) -> Check:
    section, reply = Section(GROUP), facts.snapshot
    if isinstance(reply, Unknown):
        return section.left_out("operators", reply.reason)
    if reply.is_good:
        if facts.operator_token:
            return section.passed("operators", "our token lets us in")
        if is_loopback(facts.url):
            return section.passed("operators", "no token is asked for, on this machine alone")
        return section.warned(
            "operators",
            "no token is asked for: whoever reaches the service can drain it",
            "Set LLM_PROVIDER_SERVICE_ADMIN_TOKEN.",
        )
    advice = "Give one of ADMIN_TOKEN by --admin-token or LLMCTL_ADMIN_TOKEN."
    if reply.status == _UNAUTHORIZED:
        return section.failed("operators", _say_refusal(facts.operator_token), advice)
    if reply.status == _FORBIDDEN:
        return section.warned("operators", "our token is a caller's; half of the checks are left out", advice)
    return section.failed("operators", f"{_STRANGER} (HTTP {reply.status})", "Correct --url.")


def _judge_version(facts: ServiceFacts, ours: str) -> Check:
    section = Section(GROUP)
    if facts.figures is None:
        return section.left_out("version", facts.why_no_figures)
    theirs = str(facts.figures.get("version"))
    if theirs == ours:
        return section.passed("version", f"{theirs}, as this llmctl")
    return section.warned(
        "version", f"the service is {theirs}, this llmctl {ours}", "Use the llmctl of the service's release."
    )


def _judge_clock(facts: ServiceFacts) -> Check:
    section = Section(GROUP)
    if facts.figures is None or isinstance(facts.snapshot, Unknown):
        return section.left_out("clock", facts.why_no_figures)
    try:
        theirs = datetime.fromisoformat(str(facts.figures["time"])).timestamp()
    except (KeyError, ValueError):
        return section.left_out("clock", "the service does not tell its time")
    return judge_clock(
        section, "clock", theirs, facts.snapshot.sent_unix_seconds, facts.snapshot.received_unix_seconds
    )


def _judge_metrics(reply: Reply | Unknown) -> Check:
    section = Section(GROUP)
    if isinstance(reply, Unknown):
        return section.left_out("metrics", reply.reason)
    if reply.status == _OK:
        return section.passed(
            "metrics", "at /metrics; whether Prometheus reads them cannot be seen from here"
        )
    return section.warned(
        "metrics", f"/metrics is not shown (HTTP {reply.status})", "Let Prometheus through to it, if not us."
    )


def judge_clock(section: Section, name: str, theirs: float, sent: float, received: float) -> Check:
    """A clock that was read some time between two moments of ours: only what is outside of both is off."""
    off = max(sent - theirs, theirs - received, 0.0)
    way = "behind" if theirs < sent else "ahead of"
    if off <= CLOCK_WARN_SECONDS:
        return section.passed(name, f"as ours, to {max(off, received - sent):.2g} s")
    seen = f"{off:,.1f} s {way} ours"
    advice = "Have both machines take their time from NTP: deadlines and latencies are told by it."
    if off > CLOCK_FAIL_SECONDS:
        return section.failed(name, seen, advice)
    return section.warned(name, seen, advice)


def _read_details(reply: Reply) -> Mapping[str, Any]:
    error = reply.document.get("error")
    details = error.get("details") if isinstance(error, Mapping) else None
    return details if isinstance(details, Mapping) else {}


def _say_refusal(token_given: bool) -> str:
    return "our token is not known" if token_given else "a token is asked for, and we have none"
