"""`submit --dry-run`: checks the requests, shows their bodies, and reckons what they take; sends nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.text import Text

from llmctl.client.offers import Offer, choose_offer, read_offers
from llmctl.exits import CliError, UsageProblem
from llmctl.jobs.batches import Line
from llmctl.jobs.desk import REFUSED, VALID, Desk, Draft, Submission
from llmctl.jobs.receipt import Standing
from llmctl.jobs.submission_views import STYLES, judge, say
from llmctl.jobs.survey import Batch
from llmctl.render.progress import progress_line
from llmctl.render.safe import safe
from llmctl.render.tables import cell, format_cost
from llmctl.render.terminal import Terminal
from llmctl.targets import Target
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMComparisonRequest
from service.contracts.tokens import TokenEstimate, estimate_request
from simulator.quantities import format_duration


@dataclass
class _Load:
    """What would come to one provider."""

    requests: int = 0
    tokens: int = 0

    def find_bound(self, offer: Offer) -> tuple[float, str] | None:
        """How many seconds it takes at least, and by which limit; None where nothing limits it."""
        bounds = []
        if offer.requests_per_minute:
            limit = f"{offer.provider}: {offer.requests_per_minute:,.0f} requests a minute"
            bounds.append((60 * self.requests / offer.requests_per_minute, limit))
        if offer.tokens_per_minute:
            limit = f"{offer.provider}: {offer.tokens_per_minute:,.0f} tokens a minute"
            bounds.append((60 * self.tokens / offer.tokens_per_minute, limit))
        if offer.seconds_per_call is not None and offer.concurrency:
            limit = (
                f"{offer.provider}: {offer.concurrency} calls at once of {offer.seconds_per_call:.1f} s each"
            )
            bounds.append((self.requests * offer.seconds_per_call / offer.concurrency, limit))
        return max(bounds, default=None)


@dataclass
class Reckoning:
    """The sum over all requests."""

    offers: Mapping[str, Offer] | None
    """None where no service tells prices and limits."""
    requests: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    without_price: int = 0
    loads: dict[str, _Load] = field(default_factory=dict)

    def add(self, request: LLMComparisonRequest) -> tuple[TokenEstimate, float | None]:
        """One more request; what it takes, and what it costs if that is known."""
        estimate = estimate_request(request)
        self.requests += 1
        self.tokens += estimate.total
        offer, model = choose_offer(self.offers or {}, request)
        price = None if offer is None else offer.find_price(model)
        if offer is not None:
            load = self.loads.setdefault(offer.provider, _Load())
            load.requests += 1
            load.tokens += estimate.total
        if price is None:
            self.without_price += 1
            return estimate, None
        cost_usd = price.cost_usd(estimate)
        self.cost_usd += cost_usd
        return estimate, cost_usd

    def describe(self) -> str:
        """The sum in one line."""
        said = [f"{self.requests:,} requests", f"about {self.tokens:,} tokens"]
        if self.offers is None:
            return ", ".join([*said, "price and time unknown"])
        if self.without_price == self.requests:
            said.append("price unknown")
        else:
            unknown = f" without {self.without_price:,} of unknown price" if self.without_price else ""
            said.append(f"about {format_cost(self.cost_usd)}{unknown}")
        return ", ".join([*said, self._describe_time(self.offers)])

    def _describe_time(self, offers: Mapping[str, Offer]) -> str:
        bounds = [bound for name, load in self.loads.items() if (bound := load.find_bound(offers[name]))]
        if not bounds:
            return "time unknown: no limit is set and no call has been measured"
        seconds, limit = max(bounds)
        return f"at least {format_duration(seconds)} ({limit})"


async def ask_for_offers(target: Target) -> tuple[dict[str, Offer] | None, str | None]:
    """What the service offers, or None and why that is not known."""
    try:
        return await read_offers(target.url, target.bearer_token), None
    except CliError as problem:
        return None, str(problem)


def reckon(
    batch: Batch, standing: Standing | None, reckoning: Reckoning, silence: str | None, terminal: Terminal
) -> None:
    """Checks and shows every request that would be sent; Failed where some would be refused."""
    desk = Desk(terminal)
    left_out = 0
    with progress_line(terminal) as progress:
        progress.begin("checking")
        for line in batch.read():
            if standing is not None and standing.holds(line.number, swapped=line.swapped):
                left_out += 1
                continue
            _show(line, reckoning, desk, terminal)
    if not desk.total and not left_out:
        raise UsageProblem("There is nothing to submit: the file holds no line.")
    if left_out:
        terminal.say(f"{left_out} requests have a receipt and would be left out.")
    if reckoning.requests:
        terminal.say(f"{reckoning.describe()}{'.' if silence is None else f': {silence}'}")
    judge(desk, None, resumes=False)


def _show(line: Line, reckoning: Reckoning, desk: Desk, terminal: Terminal) -> None:
    request = line.read_request()
    swapped = True if line.swapped else None
    if isinstance(request, str):
        error = {"error_code": LLMErrorCode.INVALID_REQUEST.value, "message": request}
        submission = Submission(
            line.number, REFUSED, error=error, swapped=swapped, draft=Draft(line.body, None, None)
        )
    else:
        tokens, cost_usd = reckoning.add(request)
        draft = Draft(line.body, tokens.total, cost_usd)
        submission = Submission(line.number, VALID, swapped=swapped, draft=draft)
    desk.take_answer(submission)
    if not terminal.as_json:
        terminal.show(_render_heading(submission))
        if line.body is not None:
            terminal.show(Text(safe(json.dumps(line.body, ensure_ascii=False, indent=2))), whole=True)


def _render_heading(submission: Submission) -> Text:
    said = [f"line {submission.line}{' swapped' if submission.swapped else ''}", submission.status]
    if (draft := submission.draft) is not None and draft.tokens is not None:
        said.append(f"about {draft.tokens:,} tokens")
        if draft.cost_usd is not None:
            said.append(f"about {format_cost(draft.cost_usd)}")
    elif (why := say(submission)) is not None:
        said.append(why)
    return cell(", ".join(said), STYLES[submission.status], wrap=True)
