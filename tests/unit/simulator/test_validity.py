"""A generator that was late, lagged behind, skipped or was starved says so."""

from dataclasses import replace

import pytest

from simulator.load.validity import GeneratorFigures, judge_validity

GOOD = GeneratorFigures(
    offered_per_second=200.0,
    achieved_per_second=199.0,
    lateness_p50=0.001,
    lateness_p99=0.004,
    e2e_p50=0.2,
    busiest_cpu_share=0.4,
)


def test_a_generator_that_kept_up_makes_a_valid_run_even_at_every_limit() -> None:
    verdict = judge_validity(GOOD)
    assert (verdict.valid, verdict.reasons) == (True, ())
    limits = GeneratorFigures(
        offered_per_second=100.0, achieved_per_second=98.0, lateness_p50=0.010, lateness_p99=0.050
    )
    assert judge_validity(limits).valid
    assert judge_validity(replace(limits, busiest_cpu_share=0.94)).valid


@pytest.mark.parametrize(
    ("broken", "figures"),
    [
        (replace(GOOD, lateness_p50=0.0113), ("Half of all sends", "11.3 ms", "10.0 ms", "lateness p50")),
        (replace(GOOD, lateness_p99=0.0513), ("1 % of all sends", "51.3 ms", "50.0 ms", "lateness p99")),
        (replace(GOOD, lateness_p99=0.0513, e2e_p50=None), ("51.3 ms", "50.0 ms")),
        (replace(GOOD, lateness_p99=0.301, e2e_p50=3.0), ("301.0 ms", "300.0 ms")),
        (replace(GOOD, achieved_per_second=195.0), ("195.0/s", "200.0/s", "97.5%", "98%")),
        (replace(GOOD, busiest_cpu_share=0.95), ("95% of a core",)),
    ],
)
def test_each_shortcoming_has_a_sentence(broken: GeneratorFigures, figures: tuple[str, ...]) -> None:
    verdict = judge_validity(broken)
    assert not verdict.valid
    (reason,) = verdict.reasons
    for figure in (*figures, "--workers", "lower rate", "quieter machine"):
        assert figure in reason
    assert reason.endswith(".")


def test_a_skipped_send_is_never_forgiven() -> None:
    for skipped, words in ((1, "1 send was skipped"), (7, "7 sends were skipped")):
        (reason,) = judge_validity(replace(GOOD, skipped=skipped)).reasons
        assert reason.startswith(words)


def test_a_slow_service_allows_more_lateness_and_one_that_rejects_a_slower_rate() -> None:
    assert judge_validity(replace(GOOD, lateness_p99=0.299, e2e_p50=3.0)).valid
    slowed = replace(GOOD, achieved_per_second=120.0)
    assert judge_validity(replace(slowed, rejected_per_second=76.0)).valid
    assert not judge_validity(replace(slowed, rejected_per_second=75.0)).valid


@pytest.mark.parametrize("missing", ["lateness_p50", "lateness_p99"])
def test_a_run_that_sent_nothing_is_not_valid(missing: str) -> None:
    verdict = judge_validity(replace(GOOD, **{missing: None}))
    assert not verdict.valid
    assert "Nothing was sent" in verdict.reasons[0]


def test_all_shortcomings_are_reported() -> None:
    """Fixing one may not fix the next."""
    worst = GeneratorFigures(
        100.0, 50.0, lateness_p50=1.0, lateness_p99=2.0, skipped=3, busiest_cpu_share=1.0
    )
    assert len(judge_validity(worst).reasons) == 5
