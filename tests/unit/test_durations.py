from datetime import timedelta

import pytest

from forebay import InvalidDuration
from forebay.durations import to_ms, to_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1, 1.0),
        (0.25, 0.25),
        ("3", 3.0),
        ("0.5", 0.5),
        ("250ms", 0.25),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("7d", 604800.0),
        ("2w", 1209600.0),
        (" 5s ", 5.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_forms(value, seconds):
    assert to_seconds(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        "",
        "m",
        "15x",
        "15 minutes",
        "1h-5m",
        "5m!",
        "nan",
        "inf",
        float("nan"),
        float("inf"),
        timedelta(0),
        True,
        None,
        b"5s",
        10**12,
    ],
)
def test_what_is_no_duration_is_named(value):
    with pytest.raises(InvalidDuration) as caught:
        to_seconds(value)
    assert repr(value) in str(caught.value) or type(value).__name__ in str(caught.value)


@pytest.mark.parametrize(("value", "ms"), [(1, 1000), (0.0001, 1), (0.3, 300), (1.0001, 1001), ("15m", 900_000), (4.35, 4350)])
def test_milliseconds_are_whole_and_never_shorter(value, ms):
    assert to_ms(value) == ms
