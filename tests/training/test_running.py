"""Statistics of a stream, one value at a time."""

import random

import numpy as np
import pytest

from beam_rnn.training.online.running_scaler import center_and_scale, no_statistics, observed


def after(values, decay=1.0):
    """Mean and deviation of values."""
    statistics = no_statistics(1)
    for value in values:
        statistics = observed(statistics, np.array([value]), decay)
    (mean,), (deviation,), _ = center_and_scale(statistics)
    return mean, deviation


def test_running_statistics_equal_those_of_all_values():
    chance = random.Random(0)
    values = [chance.gauss(5, 2) for _ in range(500)]

    assert after(values) == pytest.approx((np.mean(values), np.std(values)))
    assert after([*values, float("nan")]) == after(values)


@pytest.mark.parametrize("decay", [1.0, 0.99])
@pytest.mark.parametrize("spike", [-9999.0, 999_999.0, 1e30])
def test_a_value_that_is_no_measurement_is_not_the_scale_of_all_that_follow(spike, decay):
    chance = random.Random(1)
    values = [chance.gauss(50, 3) for _ in range(500)]

    mean, deviation = after([*values, spike], decay)
    assert mean == pytest.approx(50, abs=5)
    assert deviation < 2 * 3


@pytest.mark.parametrize("seen", [100, 10_000])
def test_a_level_that_stays_is_learned_within_tens_of_records(seen):
    chance = random.Random(2)
    values = [chance.gauss(0, 1) for _ in range(seen)]
    values += [1e6 + chance.gauss(0, 1) for _ in range(seen // 50 + 60)]

    mean, deviation = after(values)
    assert abs(values[-1] - mean) < 20 * deviation
