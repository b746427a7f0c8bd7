"""How long a refusal asks us to wait."""

from datetime import UTC, datetime

import httpx
import pytest

from service.providers.openai import read_openai_window
from service.providers.waits import make_window, read_wait_seconds

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "99999999"}, 86400.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Mon, 99 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after": "5", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "5", "retry-after-ms": "x"}, 5.0),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after": "5", "x-ratelimit-reset-requests": "9s"}, 5.0),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-tokens": "2d"}, 86400.0),
        ({"x-ratelimit-reset-tokens": "20"}, 20.0),
        ({"x-ratelimit-reset-tokens": "2ms", "x-ratelimit-remaining-tokens": "29999"}, None),
        ({"x-ratelimit-reset-tokens": "s"}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "4s"}, 4.0),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "4s",
                "x-ratelimit-remaining-tokens": "1000",
            },
            1.0,
        ),
    ],
)
def test_every_form_of_a_wait_is_read(headers: dict[str, str], seconds: float | None) -> None:
    """None is negative or longer than a day."""
    given = httpx.Headers(headers)
    wait = read_wait_seconds(given, read_openai_window(given), now=NOW)
    assert wait == (None if seconds is None else pytest.approx(seconds))


def test_window_has_the_rate_a_minute() -> None:
    known = make_window((3, 1.0), (None, None), (600, 0))

    assert known is not None
    assert (known.requests_per_minute, known.tokens_per_minute) == (600, None)


def test_openai_limits_are_read_from_headers() -> None:
    headers = {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-limit-tokens": "90000",
        "x-ratelimit-remaining-requests": "3",
    }
    known = read_openai_window(httpx.Headers(headers))

    assert known is not None
    assert (known.remaining_requests, known.requests_per_minute, known.tokens_per_minute) == (3, 600, 90_000)
