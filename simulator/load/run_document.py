"""What is kept of a run: `run.json`, which reports, comparisons and monitors read. Its schema has a version.

All times are in seconds; moments within a run count from its first intended send, so what came before (the
warm-up) is negative.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

LATENCIES = (
    "lateness",
    "accept",
    "accept_corrected",
    "queue_wait",
    "provider",
    "publish",
    "delivery",
    "e2e",
    "e2e_corrected",
)
"""What is timed, in the order of a request's way.

`lateness`: intended → sent, the generator's own. `accept`: sent → 202. `accept_corrected`: intended → 202.
`queue_wait`: accepted → first attempt. `provider`: all calls. `publish`: outcome known → appended by Kafka.
`delivery`: appended → received. `e2e`: 202 → received. `e2e_corrected`: intended → received.
"""


class Kept(BaseModel):
    """A part of the document: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Distribution(Kept):
    """What a histogram came to; seconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    buckets: tuple[tuple[float, int], ...] = ()
    """Upper bound in seconds and count of every bucket that is not empty, ascending; they merge exactly."""


class Slice(Kept):
    """A stretch of a run, a second as a rule. Counts are per second; what the service did not say is None."""

    at: float
    """Its beginning."""
    intended: int = 0
    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    called_back: int = 0
    failed: int = 0
    """Of `called_back`: those that told an error."""
    accept_p99: float | None = None
    e2e_p50: float | None = None
    e2e_p99: float | None = None
    e2e_corrected_p99: float | None = None
    queue_depth: int | None = None
    in_flight: int | None = None
    outbox_depth: int | None = None
    service_cpu_percent: float | None = None
    """Of one core; None where the service is not on this machine."""
    service_memory_bytes: int | None = None


class Span(Kept):
    """A phase of a run: preflight, warm-up, active, settle or quiet."""

    name: str
    begins: float
    ends: float


class FaultMark(Kept):
    """A fault that was injected while the run went on."""

    fault: str
    """As it was asked for, such as `broker down 20s at 30s`."""
    begins: float
    ends: float | None
    """None for what happens at once, such as a kill."""
    problem: str | None = None
    """Why it could not be injected, None where it was."""


class ThresholdResult(Kept):
    """A threshold and how it was kept."""

    threshold: str
    met: bool
    value: float | None
    """What the metric came to, in seconds, counts or shares; None where nothing was measured."""
    unit: str
    """`s`, `/s`, `` for counts, `%` for shares: how `value` is to be read."""


class Validity(Kept):
    """Whether the generator measured the service, and not itself."""

    valid: bool
    reasons: tuple[str, ...]
    """A sentence for each way in which it fell short."""


class LedgerFigures(Kept):
    """The ledger's totals, and the ids behind those that must not be."""

    totals: dict[str, int]
    """As `--output json` gives them: accepted, ok, failed, missing, duplicate, late, orphan, wrong_topic,
    wrong_key, corrupt, rejected; and ambiguous, early, unreachable, skipped."""
    sound: bool
    examples: dict[str, tuple[str, ...]]
    """Up to some queue ids of each verdict other than ok, by verdict."""
    rejections: dict[str, int]
    """By status and error code, such as `503 LLM_QUEUE_FULL`."""


class ServiceFigures(Kept):
    """What the service needed for the run; None where that could not be measured."""

    peak_queue_depth: int | None = None
    peak_outbox_depth: int | None = None
    drain_seconds: float | None = None
    """From the last intended send until nothing was outstanding any more."""
    cpu_seconds: float | None = None
    cpu_seconds_per_request: float | None = None
    peak_memory_bytes: int | None = None


class Host(Kept):
    """Where a run was made."""

    python: str
    platform: str
    cores: int
    memory_bytes: int | None = None


class RunDocument(Kept):
    """A run, whole."""

    schema_version: Literal[1] = 1
    run_id: str
    version: str
    """Of llmctl."""
    started_at: datetime
    seed: int
    configuration: dict[str, Any]
    """All that was asked for, secrets left out: shape, scenario, thresholds, faults, workers, target, …"""
    host: Host
    phases: tuple[Span, ...]
    offered_per_second: float
    """Intended sends over the active phase."""
    achieved_per_second: float
    ledger: LedgerFigures
    latency: dict[str, Distribution]
    """By the names of `LATENCIES`; one that was never measured is left out."""
    goodput: float
    """The share of intended requests that were answered well and within every latency threshold, 0 to 1."""
    error_rate: float
    """The share of intended requests that were rejected, failed or never answered, 0 to 1."""
    slices: tuple[Slice, ...]
    slice_seconds: float = 1.0
    """How wide they are: one second, and more in a run of hours."""
    faults: tuple[FaultMark, ...] = ()
    service: ServiceFigures = Field(default_factory=ServiceFigures)
    thresholds: tuple[ThresholdResult, ...] = ()
    validity: Validity
    interrupted: bool = False
    exit_code: int
