"""What headers ask for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vecfill.encode.api.rate_limits import duration, rate_wait, retry_after

NOW = datetime(2026, 11, 24, 15, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "Tue, 24 Nov 2026 15:00:30 GMT"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 14:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3s", 3723.0),
        ("1.5s", 1.5),
        ("7", 7.0),
        ("", None),
        ("x1s", None),
        (None, None),
    ],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


def limits(kind, *, left, reset, limit=None):
    headers = {f"x-ratelimit-remaining-{kind}": left, f"x-ratelimit-reset-{kind}": reset}
    return headers | ({f"x-ratelimit-limit-{kind}": limit} if limit else {})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        (limits("requests", left="1", reset="9s"), 0.0),
        (limits("requests", left="0", reset="9s"), 9.0),
        (limits("requests", left="0", reset="10s", limit="100"), 0.1),
        (limits("tokens", left="50", reset="10s"), 0.0),
        (limits("tokens", left="49", reset="10s"), 10.0),
        (limits("tokens", left="0", reset="60s", limit="100"), 30.0),
        (limits("tokens", left="0", reset="60s", limit="40"), 60.0),
        (limits("tokens", left="?", reset="60s"), 0.0),
        (limits("tokens", left="0", reset="?"), 0.0),
    ],
)
def test_a_quota_that_is_used_up_is_waited_for_until_it_lets_the_next_request_through(headers, seconds):
    assert rate_wait(headers, 50) == pytest.approx(seconds)
