"""What a check comes to, and what all of them come to together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from llmctl.exits import ExitCode


class Verdict(StrEnum):
    """What a check says."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """It could not be made; what was seen says why."""


@dataclass(frozen=True)
class Check:
    """One line of the examination."""

    group: str
    name: str
    verdict: Verdict
    seen: str
    """What was found, in a sentence's part."""
    advice: str | None = None
    """What to do about it."""
    subject: str | None = None
    """Which topic or provider it is about, where there may be several."""

    @property
    def title(self) -> str:
        """Its full name in a sentence."""
        return " ".join(filter(None, (self.group, self.subject, self.name)))

    def describe(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "group": self.group,
            "subject": self.subject,
            "name": self.name,
            "verdict": self.verdict.value,
            "seen": self.seen,
            "advice": self.advice,
        }


@dataclass(frozen=True)
class Section:
    """Writes the checks of one group, all about the same subject."""

    group: str
    subject: str | None = None

    def passed(self, name: str, seen: str) -> Check:
        """All is well."""
        return Check(self.group, name, Verdict.PASS, seen, None, self.subject)

    def warned(self, name: str, seen: str, advice: str) -> Check:
        """It works, and may not go on to."""
        return Check(self.group, name, Verdict.WARN, seen, advice, self.subject)

    def failed(self, name: str, seen: str, advice: str) -> Check:
        """It does not work."""
        return Check(self.group, name, Verdict.FAIL, seen, advice, self.subject)

    def left_out(self, name: str, why: str, advice: str | None = None) -> Check:
        """It could not be looked at."""
        return Check(self.group, name, Verdict.SKIP, why, advice, self.subject)


@dataclass(frozen=True)
class Unknown:
    """Stands for what could not be found out."""

    reason: str
    """In a sentence."""
    out_of_reach: bool = False
    """Nobody answered; else it was refused, or could not even be asked."""


@dataclass(frozen=True)
class Report:
    """A whole examination."""

    checks: Sequence[Check]
    strict: bool = False
    """Warnings count as failures."""
    out_of_reach: bool = False
    """Neither the service nor a broker answers."""

    @property
    def verdict(self) -> Verdict:
        """The worst that was found; what was left out says nothing."""
        for worst in (Verdict.FAIL, Verdict.WARN):
            if self.find(worst):
                return worst
        return Verdict.PASS

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        if self.out_of_reach:
            return ExitCode.UNREACHABLE
        bad = {Verdict.FAIL, Verdict.WARN} if self.strict else {Verdict.FAIL}
        return ExitCode.FAILED if self.verdict in bad else ExitCode.DONE

    def find(self, verdict: Verdict) -> list[Check]:
        """The checks that came to this."""
        return [each for each in self.checks if each.verdict is verdict]

    def describe(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "checks": [each.describe() for each in self.checks],
            "verdict": self.verdict.value,
            "exit_code": int(self.exit_code),
        }


def join(parts: Iterable[str]) -> str:
    """Some findings as one sentence's part."""
    return "; ".join(parts)
