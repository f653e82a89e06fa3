"""Numbers that look like dates are distinguished from seconds and counters."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from beam_rnn.cli.date_like_numbers import NoTimesError, check_times, wrong_times
from beam_rnn.cli.usable_records import CountForms
from beam_rnn.data.event_times import check_time_format, micros_of

DAYS = [date(2014, 7, 1) + timedelta(i) for i in range(60)]
MONTHS = [(1949 + i // 12, i % 12 + 1) for i in range(60)]


def wrong(times):
    combine = CountForms("t")
    total = combine.create_accumulator()
    for time in times:
        total = combine.add_input(total, {"t": time})
    return wrong_times(combine.extract_output(total), "t")


@pytest.mark.parametrize(
    ("times", "looks"),
    [
        (range(1950, 2010), "years, such as t='1950'.* '%Y' or"),
        ([f"{year}.0" for year in range(1950, 2010)], "years, .* '%Y' or"),
        (
            [year + (month - 1) / 12 for year, month in MONTHS],
            "years with a fraction, .* write them",
        ),
        (
            [10 * year + i % 4 + 1 for i, year in enumerate(range(1950, 1999))],
            "a year and its quarter",
        ),
        ([100 * year + month for year, month in MONTHS], "months, .* '%Y%m' or"),
        ([201400 + week for week in range(1, 54)], "a year and its week"),
        ([2014000 + day for day in range(1, 366)], "a year and its day, .* '%Y%j' or"),
        ([f"{day:%Y%m%d}.0" for day in DAYS], "days with a point, .* '%Y%m%d' or"),
        ([float(f"{day:%Y%m%d}") for day in DAYS], "days with a point, .* '%Y%m%d' or"),
        ([f"{day:%d%m%Y}" for day in DAYS], "days, .* '%d%m%Y' or"),
        ([int(f"{day:%d%m%Y}") for day in DAYS], "days, .* '%d%m%Y' or"),
        ([int(f"{day:%m%d%Y}") for day in DAYS], "days that begin with the month, .* '%m%d%Y' or"),
        ([f"{day:%y%m%d}" for day in DAYS], "days that begin with the year, .* '%y%m%d' or"),
        ([2014070100 + hour for hour in range(24)], "hours of a day, .* '%Y%m%d%H' or"),
        ([45292 + i / 24 for i in range(24)], "days as Excel counts them, .* 'excel' or"),
    ],
)
@pytest.mark.parametrize("bad", [None, "", "n/a", float("nan"), -1])
def test_dates_are_seen_although_one_of_them_is_no_time(times, looks, bad):
    with pytest.raises(NoTimesError, match=f"look like {looks}"):
        check_times(1, _forms([*times, bad]), "t", trained=False)


def _forms(times):
    combine = CountForms("t")
    parts = [combine.create_accumulator() for _ in range(2)]
    for i, time in enumerate(times):
        combine.add_input(parts[i % 2], {"t": time})
    return combine.extract_output(combine.merge_accumulators(parts))


@pytest.mark.parametrize(
    "times",
    [
        [],
        range(3),
        range(2000),
        [0.1 * i for i in range(30_000)],
        [3600 * hour for hour in range(24 * 365)],
        [86_400 * day for day in range(4000)],
        range(100_000, 160_000),
        range(1_000_000, 1_100_000, 7),
        [1_404_172_800 + 3600 * hour for hour in range(100)],
        [1_404_172_800.5 + hour for hour in range(100)],
        [f"{day}" for day in DAYS],
        [int(f"{day:%Y%m%d}") for day in DAYS],
        [f"{day:%Y%m%d}" for day in DAYS],
        [datetime(2014, 7, 1), True],  # noqa: DTZ001
    ],
)
def test_counters_and_seconds_are_no_dates(times):
    assert wrong(times) is None


def test_days_among_seconds_are_reported():
    assert "2 of 3 numbers look like days, such as t='20140701'" in wrong([20140701, 20140702, 5])


@pytest.mark.parametrize(
    ("time_format", "value"),
    [
        ("%d%m%Y", 1072014),
        ("%d%m%Y", "1072014"),
        ("%d%m%Y", "01072014.0"),
        ("%m%d%Y", 7012014),
        ("%y%m%d", 140701),
        ("%Y%j", 2014182),
        ("%Y%m%d", "20140701.0"),
        ("%Y%m%d%H%M%S%f", "201407010000000"),
        ("%Y%m%dT%H%M%z", "20140701T0200+02:00"),
        ("%d%b%Y", "1jul2014"),
        ("%d.%m.%Y", "1.7.2014"),
    ],
    ids=repr,
)
def test_numbers_side_by_side_have_their_zeros_or_get_them_back(time_format, value):
    check_time_format(time_format)
    assert micros_of(value, time_format) == micros_of("2014-07-01")


def test_a_first_digit_that_is_gone_does_not_shift_the_others():
    days = [date(2014, 11, 1), date(2014, 1, 11), date(2014, 11, 11)]
    for day in days:
        assert micros_of(int(f"{day:%d%m%Y}"), "%d%m%Y") == micros_of(day)
    for value, time_format in (("201471", "%Y%m%d"), ("2014071T930", "%Y%m%dT%H%M")):
        with pytest.raises(ValueError, match=r"unconverted data|zeros are missing"):
            micros_of(value, time_format)


@pytest.mark.parametrize("unit", ["s", "h", "Y"])
def test_a_numpy_time_beyond_64_bits_is_no_time(unit):
    for sign in (1, -1):
        with pytest.raises(ArithmeticError):
            micros_of(np.datetime64(sign * 2**62, unit))
    assert micros_of(np.datetime64("1960-01-01", unit)) == micros_of("1960-01-01")
    assert micros_of(np.datetime64("1960-01-01T00:00:00.000001999")) == micros_of("1960-01-01") + 1
