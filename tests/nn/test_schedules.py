import pytest

from beam_rnn.errors import ConfigurationError
from beam_rnn.nn.schedules import Cosine, StepDecay, Warmup, rate_at


def test_step_decay():
    assert [StepDecay(8.0, every=2, factor=0.5)(t) for t in range(6)] == [8, 8, 4, 4, 2, 2]


def test_cosine_goes_from_the_first_rate_to_the_last_and_stays():
    rate = Cosine(1.0, steps=10, final=0.2)

    assert rate(0) == 1
    assert rate(5) == pytest.approx(0.6)
    assert rate(10) == rate(1000) == pytest.approx(0.2)
    falling = [rate(t) for t in range(11)]
    assert falling == sorted(falling, reverse=True)


def test_warm_up_rises_to_the_schedule_that_goes_on():
    rate = Warmup(4, then=StepDecay(1.0, every=2, factor=0.1))

    assert [rate(t) for t in range(8)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1])
    assert [Warmup(2, then=0.5)(t) for t in range(4)] == [0.25, 0.5, 0.5, 0.5]


def test_a_number_is_one_rate_for_all():
    assert rate_at(0.3, 0) == rate_at(0.3, 10**6) == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(-1, every=2), "initial must be a number of at least 0 .* got -1"),
        (lambda: StepDecay(1, every=0), "every must be a whole number of at least 1, got 0"),
        (lambda: Cosine(1, steps=2.5), "steps must be .* got 2.5"),
        (lambda: Cosine(1, steps=2, final=float("inf")), "final must be .* got inf"),
        (lambda: Warmup(3, then=None), "then must be .* got None"),
    ],
)
def test_invalid_settings_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
