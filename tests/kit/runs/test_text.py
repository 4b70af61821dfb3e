import math

import pytest

from esscher.kit.runs.text import format_duration, format_estimate, format_value


@pytest.mark.parametrize(
    ("mean", "se", "text"),
    [
        (0.47623, 0.01234, "0.476 ± 0.012"),
        (-3.2, 0.04, "−3.200 ± 0.040"),
        (1234.5, 67.8, "1234 ± 68"),
        (12.0, 250.0, "12 ± 250"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, None, "0.5 ± ?"),
        (0.5, math.nan, "0.5 ± ?"),
        (1e-9, 2e-10, "1.000e-09 ± 2.0e-10"),
        (None, None, "not available"),
        (math.nan, 0.1, "not available"),
    ],
)
def test_mean_and_error_share_their_digits(mean, se, text):
    assert format_estimate(mean, se) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"mean": 0.5, "se": 0.012, "n": 2000}, "0.500 ± 0.012 (n=2,000)"),
        ({"mean": None, "se": None, "n": 0}, "not available"),
        (None, "not available"),
        (math.nan, "not available"),
        (True, "yes"),
        (1234567, "1234567"),
        (-0.123456, "−0.1235"),
        (-math.inf, "−inf"),
        ("a", "a"),
        ((1, 2.0), "1, 2"),
    ],
)
def test_values_are_short(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59.4, "59s"), (60, "1m00s"), (3599, "59m59s"), (7620, "2h07m")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text
