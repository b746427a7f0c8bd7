"""Faults on a timeline are read as documented; what is none is refused in a sentence."""

import pytest

from simulator.load.faults import check_overlaps, parse_fault


@pytest.mark.parametrize(
    ("text", "at", "seconds", "delay"),
    [
        ("broker down 20s at 30s", 30.0, 20.0, None),
        ("broker slow 500ms 20s at 1m", 60.0, 20.0, 0.5),
        ("broker cut at 5s", 5.0, None, None),
        ("broker lose-acks 2s at 5s", 5.0, 2.0, None),
        ("provider outage 10s at 15s", 15.0, 10.0, None),
        ("provider overloaded 10s at 0s", 0.0, 10.0, None),
        ("service stall 2s at 20s", 20.0, 2.0, None),
        ("service  kill at 20s", 20.0, None, None),
    ],
)
def test_documented_faults_are_read(text: str, at: float, seconds: float | None, delay: float | None) -> None:
    fault = parse_fault(text)
    assert (fault.at_seconds, fault.seconds, fault.delay_seconds) == (at, seconds, delay)
    assert parse_fault(fault.text) == fault
    assert fault.ends_seconds == (None if seconds is None else at + seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no fault"),
        ("broker down 20s", "is no fault"),
        ("broker down 20s at", "is no fault"),
        ("broker dwon 20s at 30s", "nearest are broker down"),
        ("provider kill at 30s", "there is no fault 'provider kill'"),
        ("service kill 5s at 30s", "takes no duration"),
        ("broker down at 30s", "takes how long it lasts"),
        ("broker slow 20s at 30s", "takes a delay and how long it lasts"),
        ("broker down soon at 30s", "'soon' is no duration"),
        ("broker down 20s at noon", "'noon' is no duration"),
        ("broker down 0s at 30s", "would do nothing"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_fault(text)


def test_faults_of_one_kind_do_not_overlap() -> None:
    """The end of the first would end the second; those of different kinds may."""
    down, again, slow = map(
        parse_fault, ("broker down 20s at 30s", "broker down 5s at 45s", "broker slow 1s 20s at 30s")
    )
    later = parse_fault("broker down 5s at 51s")
    check_overlaps([later, down, slow])
    with pytest.raises(ValueError, match="overlap"):
        check_overlaps([again, down])
