"""Scenario files are read strictly, and what they say about time and chance holds."""

from collections import Counter
from pathlib import Path

import pytest

from simulator.provider.api import Ending, Trouble
from simulator.provider.behaviour import Behaviour, read_attempt, read_request_id
from simulator.provider.draws import Draws
from simulator.provider.faults import Breakage, find_fault
from simulator.provider.scenario import Scenario, ScenarioError, find_scenario, list_presets, read_scenario

PRESETS = {
    "calm", "realistic", "rate-limited", "brownout", "outage", "flaky", "poison", "slow-drip", "chaos",
}  # fmt: skip


def read(text: str) -> Scenario:
    return read_scenario(text, "test", "test.toml")


def draws(number: int, attempt: int = 0) -> Draws:
    return Draws(7, f"request {number}".encode(), attempt)


def test_the_presets_are_these() -> None:
    assert set(list_presets()) == PRESETS
    for name in PRESETS:
        scenario = find_scenario(name)
        assert scenario.name == name
        assert scenario.description.endswith(".")


def test_realistic_has_the_recorded_figures() -> None:
    behaviour = find_scenario("realistic").behaviour
    assert (behaviour.tokens.prompt, behaviour.tokens.completion) == (1446, 54)
    times = [behaviour.latency.sample(draws(number), 1446, 54) for number in range(5000)]
    assert sum(times) / len(times) == pytest.approx(1.610, rel=0.02)


def test_a_file_of_ones_own_is_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "slow.csv").write_text("1.5\n")
    path = tmp_path / "mine.toml"
    path.write_text('[latency]\nresponse = "empirical file=slow.csv"\n')
    scenario = find_scenario(str(path))
    assert scenario.name == "mine"
    assert scenario.behaviour.latency.sample(draws(1), 0, 0) == 1.5


def test_faults_strike_as_often_as_they_should() -> None:
    behaviour = read('[faults]\nhttp_503 = "5%"\nmalformed = 0.1\nreset = "2.5%"\n').behaviour
    struck = Counter(
        fault.name if (fault := behaviour.pick_fault(draws(number), 0)) else None for number in range(20_000)
    )
    for name, share in {"http_503": 0.05, "malformed": 0.1, "reset": 0.025}.items():
        assert struck[name] / 20_000 == pytest.approx(share, rel=0.2)
    assert sum(struck.values()) - struck[None] == pytest.approx(0.175 * 20_000, rel=0.1)


def test_what_strikes_depends_on_request_and_attempt_alone() -> None:
    behaviour = find_scenario("chaos").behaviour
    once = [behaviour.pick_fault(draws(number), 0) for number in range(500)]
    again = [behaviour.pick_fault(draws(number), 0) for number in reversed(range(500))]
    retried = [behaviour.pick_fault(draws(number, 1), 1) for number in range(500)]
    assert once == again[::-1]
    assert once != retried


def test_the_first_attempts_of_every_request_fail() -> None:
    behaviour = read('[retries]\nfail_first = 2\nfail_with = "reset"\n').behaviour
    struck = [behaviour.pick_fault(draws(1, attempt), attempt) for attempt in range(4)]
    assert [fault.breakage if fault else None for fault in struck] == [Breakage.RESET] * 2 + [None] * 2


def test_tokens_take_time() -> None:
    text = '[latency]\nresponse = "1s"\nper_prompt_token = "2ms"\nper_completion_token = "10ms"\n'
    assert read(text).behaviour.latency.sample(draws(1), 100, 50) == pytest.approx(1.7)


TIMELINE = """
[faults]
http_500 = "1%"
[[timeline]]
at = "60s"
for = "30s"
set = { outage = "http_503" }
[[timeline]]
at = "10s"
for = "2s"
every = "20s"
[timeline.set.faults]
overloaded = "60%"
"""


@pytest.mark.parametrize(
    ("seconds", "down", "burst"),
    [
        (0, False, False), (9.9, False, False), (10, False, True), (12, False, False), (31, False, True),
        (59.9, False, False), (60, True, False), (71, True, True), (89.9, True, False), (90, False, True),
        (92.1, False, False),
    ],
)  # fmt: skip
def test_the_timeline_changes_parts_while_it_is_time(seconds: float, down: bool, burst: bool) -> None:
    behaviour: Behaviour = read(TIMELINE).behaviour_at(seconds)
    assert (behaviour.outage is not None) == down
    assert behaviour.faults.shares[0][0].name == ("overloaded" if burst else "http_500")


def test_faults_have_the_names_of_what_happens() -> None:
    assert find_fault("http_529").trouble is Trouble.OVERLOADED
    assert (find_fault("http_418").trouble, find_fault("http_418").status) == (Trouble.INVALID, 418)
    assert find_fault("quota_exhausted").trouble is Trouble.QUOTA_EXHAUSTED
    assert find_fault("safety").ending is Ending.SAFETY
    assert find_fault("ambiguous").breakage is Breakage.AMBIGUOUS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seed = x\n", "test.toml is no TOML: invalid value (at line 1, column 8)"),
        (
            "\n[faults]\nhtp_500 = 0.1\n",
            "test.toml, line 3: faults.htp_500: there is no fault 'htp_500'; choose among http_400",
        ),
        ("sed = 1\n", "test.toml, line 1: sed: there is no such key; allowed are description, seed"),
        ("seed = true\n", "line 1: seed: True is not allowed; give a whole number from"),
        ('[latency]\nresponse = "fast"\n', "line 2: latency.response: 'fast' is no distribution; write for"),
        ("[limits]\nrpm = 0\n", "line 2: limits.rpm: 0 is not allowed; give a number from 0.001"),
        ('[limits]\nretry_after = "soon"\n', "choose among vendor, seconds, date, ms, absent"),
        ("[faults]\nreset = 0.6\nhang = 0.6\n", "line 1: faults: the shares add up to more than 100%"),
        ('[faults]\nreset = "200%"\n', "line 2: faults.reset: '200%' is no share; give a number from 0 to 1"),
        ("[capacity]\nqueue = 3\n", "line 1: capacity.slots: this is missing"),
        ('[capacity]\nslots = 1\noverflow = "reset"\n', "'reset' is no error; choose for example http_429"),
        ("time_scale = 0\n", "line 1: time_scale: 0 is not allowed; give a number from 0.001 to 1000"),
        ("latency = 3\n", "line 1: latency: this must be a table"),
        ("timeline = 3\n", "line 1: timeline: this must be a list; write [[timeline]]"),
        (
            '[[timeline]]\nat = "1s"\nset = { outage = "reset" }\n[[timeline]]\nat = "soon"\n',
            "line 4: timeline[1].set: it must hold one of latency",
        ),
        (
            '[[timeline]]\nat = "soon"\nset = { outage = "reset" }\n',
            "line 2: timeline[0].at: 'soon' is no duration up to a day; write for example 300ms",
        ),
        ('[[timeline]]\nat = "1s"\n', "timeline[0].set: it must hold one of latency, tokens"),
        (
            '[[timeline]]\nat = "1s"\nevery = "3s"\nset = { outage = "reset" }\n',
            "line 3: timeline[0].every: a phase that comes again needs 'for'",
        ),
        ('[[timeline]]\nat = "1s"\n[timeline.set]\nseed = 3\n', "line 4: timeline[0].set.seed: there is no"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "picture.toml").write_bytes(b"\xff\xfe")
    for name, complaint in {
        "missing.toml": "missing.toml cannot be read: No such file",
        "picture.toml": "picture.toml is no text in UTF-8",
        "": "cannot be read: Is a directory",
    }.items():
        with pytest.raises(ScenarioError, match=complaint):
            find_scenario(f"{tmp_path}/{name}")
    with pytest.raises(ScenarioError, match="no scenario 'storm'; choose one of: brownout, calm"):
        find_scenario("storm")


@pytest.mark.parametrize(
    ("headers", "attempt", "request_id"),
    [
        ({}, None, None),
        ({"x-stainless-retry-count": "2"}, 2, None),
        ({"x-client-request-id": "6f1f-a1-1"}, 0, "6f1f-a1"),
        ({"x-client-request-id": "6f1f-a1-3"}, 2, "6f1f-a1"),
        ({"x-client-request-id": "01234567-89ab-cdef-0123-456789012345"}, None, None),
        ({"x-stainless-retry-count": "many", "x-client-request-id": "x"}, None, None),
    ],
)
def test_callers_say_which_attempt_it_is(
    headers: dict[str, str], attempt: int | None, request_id: str | None
) -> None:
    """SDKs count retries from 0, our service attempts from 1; a UUID's end is no number of an attempt."""
    assert read_attempt(headers) == attempt
    assert read_request_id(headers) == request_id
