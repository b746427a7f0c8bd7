"""The providers: can one be asked, what do their vendors say of the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmctl.doctor.asking import Reply
from llmctl.doctor.checks import Check, Section, Unknown
from llmctl.doctor.service import NEEDS_OPERATOR, OUT_OF_REACH, ServiceFacts
from llmctl.doctor.words import say_count

GROUP = "providers"
MOCK = "mock"
_LIMIT_PASSES = "Wait and look again."
_ADVICE = {
    "refused": "Correct the key or the base URL of this provider in the service's settings.",
    "quota": "See the billing page of the account.",
    "limited": _LIMIT_PASSES,
    "unreachable": "Look at the vendor's status page and at the service's way to it.",
    "unexpected": "Correct the base URL of this provider in the service's settings.",
}
_PASSING = frozenset({"limited"})
"""What says nothing against the key."""


def list_providers(facts: ServiceFacts) -> Sequence[Mapping[str, Any]] | None:
    """The providers as the service describes them; None where it does not."""
    for reply in (facts.providers, facts.snapshot):
        found = reply.document.get("providers") if isinstance(reply, Reply) and reply.is_good else None
        if isinstance(found, list):
            return [each for each in found if isinstance(each, Mapping) and "name" in each]
    return None


def judge_providers(facts: ServiceFacts, keys: Mapping[str, Reply | Unknown]) -> list[Check]:
    """One check of all of them, and two of each."""
    section, providers = Section(GROUP), list_providers(facts)
    if providers is None:
        silent = isinstance(facts.readiness, Unknown)
        why = OUT_OF_REACH if silent else "the service does not let us see them"
        return [section.left_out("usable", why)]
    checks = [_judge_all(section, providers)]
    for each in providers:
        own = Section(GROUP, str(each["name"]))
        checks += [_judge_state(own, each), _judge_key(own, keys.get(str(each["name"])))]
    return checks


def _judge_all(section: Section, providers: Sequence[Mapping[str, Any]]) -> Check:
    usable = [
        str(each["name"]) for each in providers if not each.get("held") and each.get("circuit") != "open"
    ]
    if not usable:
        why = "none of them can be asked now" if providers else "none is configured"
        return section.failed("usable", why, "See below, or `llmctl providers list`.")
    if usable == [MOCK]:
        return section.warned(
            "usable", "only the mock, which judges by a hash", "Set an API key, such as OPENAI_API_KEY."
        )
    default = next((str(each["name"]) for each in providers if each.get("default")), None)
    if default is not None and default not in usable:
        return section.warned(
            "usable", f"{', '.join(usable)}, but not the default, {default}", "See below for what holds it."
        )
    said = ", ".join(f"{name} (the default)" if name == default else name for name in usable)
    return section.passed("usable", said)


def _judge_state(section: Section, provider: Mapping[str, Any]) -> Check:
    name = provider["name"]
    calls, errors = provider.get("calls", 0), provider.get("errors", 0)
    seen = f"{say_count(calls, 'call')}, {errors:,} failed" if calls else "not asked yet"
    last = provider.get("last_error")
    if isinstance(last, Mapping) and last.get("error_code"):
        seen += f", the last with {last['error_code']}"
    if provider.get("held"):
        until = provider.get("held_until") or "it is released"
        reason = provider.get("hold_reason")
        advice = f"`llmctl providers release {name}` asks it again."
        return section.warned("state", f"held until {until} ({reason}); {seen}", advice)
    if provider.get("circuit") == "open":
        advice = "It is tried again by itself; look at its vendor's status page."
        return section.warned("state", f"its circuit is open, its requests wait; {seen}", advice)
    return section.passed("state", seen)


def _judge_key(section: Section, reply: Reply | Unknown | None) -> Check:
    if reply is None:
        return section.left_out("key", NEEDS_OPERATOR)
    if isinstance(reply, Unknown):
        return section.left_out("key", reply.reason)
    if not reply.is_good or "usable" not in reply.document:
        return section.left_out("key", reply.message.rstrip("."))
    status, said = str(reply.document.get("status")), str(reply.document.get("message")).rstrip(".")
    if status == "no_key":
        return section.left_out("key", "it needs none")
    if reply.document["usable"]:
        return section.passed("key", said)
    advice = _ADVICE.get(status, _LIMIT_PASSES)
    if status in _PASSING:
        return section.warned("key", said, advice)
    return section.failed("key", said, advice)
