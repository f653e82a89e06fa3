"""How probable an error is, from the errors before it."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn.errors import ConfigurationError
from beam_rnn.models.error_tail import NO_ERRORS, Tail, observed, tail_probability
from beam_rnn.online import Surprise

SIZES = st.floats(-1e300, 1e300)


def after(errors, surprise=None):
    tail = NO_ERRORS
    for error in errors:
        tail = observed(tail, error, surprise or Surprise())
    return tail


def probabilities(errors, surprise=None):
    tail, found = NO_ERRORS, []
    for error in errors:
        found.append(tail_probability(tail, error))
        tail = observed(tail, error, surprise or Surprise())
    return found


def student(chance, freedom):
    chi = sum(chance.gauss(0, 1) ** 2 for _ in range(freedom))
    return chance.gauss(0, 1) / math.sqrt(chi / freedom)


@pytest.mark.parametrize(
    "draw",
    [
        lambda chance: chance.gauss(0, 1),
        lambda chance: chance.expovariate(1),
        lambda chance: student(chance, 3),
        lambda chance: chance.gauss(0, 1e-6) + (chance.random() < 0.05) * chance.gauss(0, 1e3),
    ],
    ids=["normal", "exponential", "student", "mixture"],
)
def test_tail_probabilities_match_the_frequencies_of_errors(draw):
    """Whatever the errors are: one in a hundred is below 0.01, one in a thousand below 0.001."""
    chance = random.Random(0)
    found = probabilities([draw(chance) for _ in range(30_000)])[2_000:]

    for probability in (0.01, 0.001):
        share = sum(p < probability for p in found) / len(found)
        assert probability / 2.5 < share < 2.5 * probability


@pytest.mark.parametrize("peaks", [0.01, 0.05])
def test_the_threshold_stays_where_that_share_of_the_errors_is_above_it(peaks):
    chance, surprise = random.Random(1), Surprise(peaks=peaks)
    tail, above = NO_ERRORS, 0
    for i in range(30_000):
        error = chance.expovariate(1) * (1 if i < 15_000 else 20)
        above += i >= 16_000 and error > tail.threshold
        tail = observed(tail, error, surprise)

    assert above / 14_000 == pytest.approx(peaks, rel=0.3)


@given(errors=st.lists(SIZES, max_size=30), sizes=st.lists(SIZES, min_size=2, max_size=5))
def test_a_larger_error_is_never_more_probable(errors, sizes):
    tail = after(errors)
    found = [tail_probability(tail, size) for size in sorted(sizes, key=abs)]

    assert all(0 <= probability <= 1 for probability in found)
    assert found == sorted(found, reverse=True)
    assert all(math.isfinite(number) for number in tail)


def test_the_formula_at_a_place():
    """Three peaks 1, 2 and 6 above the threshold 5, of 99 errors of mean 2; one more of mean 2."""
    tail = Tail(99.0, 198.0, 5.0, 3.0, 9.0, 41.0, 1.0)
    mean, square = (9 + 2) / 4, (41 + 8) / 4
    variance = square - mean**2
    xi = (1 - mean**2 / variance) / 2
    sigma = mean * (1 - max(xi, 0))
    xi = max(xi, 0) + 1 / 4

    expected = 4 / 100 * (1 + xi * 3 / sigma) ** (-1 / xi)
    assert tail_probability(tail, -8.0) == pytest.approx(expected)
    assert tail_probability(tail, 5.0) == pytest.approx(4 / 100)
    assert tail_probability(tail, 2.5) == pytest.approx(math.sqrt(4 / 100))


def test_the_unit_does_not_matter():
    errors = [random.Random(2).gauss(0, 1) for _ in range(300)]

    for one, other in zip(
        probabilities(errors), probabilities([error * 2**20 for error in errors]), strict=True
    ):
        assert one == pytest.approx(other)


def test_without_errors_every_tail_probability_is_one():
    assert tail_probability(NO_ERRORS, 1e9) == 1
    assert tail_probability(after([1, 2, 3]), 0) == 1


def test_the_first_change_of_a_constant_series_is_rare():
    assert tail_probability(after([0.0] * 99), 1e-9) == pytest.approx(0.01, rel=0.05)


def test_a_spike_is_one_event():
    errors = [math.sin(i) for i in range(500)]
    leap, fall = probabilities([*errors, 40.0, -40.0])[-2:]

    assert leap < 1e-3
    assert fall > leap


@pytest.mark.parametrize("spike", [1e3, 999_999, 1e30])
def test_a_value_that_is_no_measurement_does_not_hide_a_leap_after_it(spike):
    chance = random.Random(3)
    errors = [chance.gauss(0, 1) for _ in range(1000)]
    errors[500:502] = spike, -spike

    assert probabilities([*errors[:510], 200.0])[-1] < 0.005
    assert probabilities([*errors, 200.0])[-1] < 0.005


@pytest.mark.parametrize("growth", [100, 1e6])
def test_errors_that_grow_and_stay_are_learned_within_tens_of_records(growth):
    chance = random.Random(4)
    errors = [chance.gauss(0, 1) * (1 if i < 3000 else growth) for i in range(3300)]

    found = probabilities(errors)
    assert min(found[3000:3010]) < 0.001
    assert min(found[3100:]) > 0.001


def test_the_first_error_of_a_key_that_was_always_right_counts_in_full():
    assert after([0.0] * 99 + [5.0]).excess == 5.0


def test_old_errors_are_forgotten():
    wild, calm = [50.0, -50.0] * 500, [1.0, -0.5, 0.25] * 400

    assert probabilities([*wild, *calm, 20.0], Surprise(memory=100))[-1] < 0.01
    assert probabilities([*wild, *calm, 20.0], Surprise(memory=1e6))[-1] > 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": 0.5}, r"memory must be in \[1, inf\), got 0.5"),
        ({"peaks": 1}, r"peaks must be in \[0, 1\), got 1"),
        ({"peaks": 0}, r"peaks must be in \(0, 1\), got 0"),
    ],
)
def test_invalid_settings_of_surprise_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Surprise(**settings)
