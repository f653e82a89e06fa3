"""The protocols of the tasks in `benchmarks/tasks`: their definitions and their fairness."""

import json
import operator
from pathlib import Path

import numpy as np
import pytest

from beam_rnn import Model, Network
from benchmarks import accuracy
from benchmarks.tasks import chorales, etth1, long_lags, translation
from benchmarks.tasks.long_lags import ADDING, JUDGED, LEARNED, SYMBOLS, TEMPORAL_ORDER
from tests.helpers.sequences import hold_back

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


def needs(name):
    reason = f"{name} may not ship with the project, and is not in {DATA}"
    return pytest.mark.skipif(not (DATA / name).exists(), reason=reason)


def test_temporal_order_is_the_order_of_two_symbols():
    seen = set()
    for x, target in long_lags.drawn(TEMPORAL_ORDER, 400, seed=0, stream=LEARNED):
        text = "".join(SYMBOLS[i] for i in x.argmax(1))
        places = [i for i, symbol in enumerate(text) if symbol in "XY"]

        assert 100 <= len(text) <= 110
        assert (x.sum(1) == 1).all()
        assert text[0] == "E"
        assert text[-1] == "B"
        assert set(text[1:-1]) <= set("abcdXY")
        assert len(places) == 2
        assert 10 <= places[0] <= 20
        assert 50 <= places[1] <= 60
        order = text[places[0]] + text[places[1]]
        assert TEMPORAL_ORDER.columns.targets[target.argmax()] == order
        assert sorted(target) == [0, 0, 0, 1]
        seen.add(order)
    assert len(seen) == 4


def test_adding_marks_two_numbers_whose_sum_is_asked():
    first_is_marked = 0
    for x, target in long_lags.drawn(ADDING, 400, seed=0, stream=LEARNED):
        numbers, marks = x.T
        one, other = np.flatnonzero(marks == 1)

        assert 100 <= len(x) <= 110
        assert (np.abs(numbers) <= 1).all()
        assert one < 10
        assert other < 49
        assert marks[-1] == -1
        assert marks[0] == (1 if one == 0 else -1)
        assert (np.delete(marks, [0, one, other, -1]) == 0).all()
        assert target == pytest.approx(0.5 + (numbers[one] + numbers[other]) / 4)
        if one == 0:
            first_is_marked += 1
            assert numbers[0] == 0
    assert first_is_marked


@pytest.mark.parametrize("task", [TEMPORAL_ORDER, ADDING], ids=["temporal-order", "adding"])
def test_training_and_test_sequences_are_disjoint(task):
    kinds = [
        {each.x.tobytes() for each in long_lags.drawn(task, 200, seed, stream)}
        for seed in (0, 1)
        for stream in (LEARNED, JUDGED)
    ]

    assert len(set.union(*kinds)) == 800


def constant(task, outputs):
    """Return a model with constant outputs."""
    network = Network("gru", 1, output_steps="last")
    parameters = network.initialize(task.columns.input_size, task.columns.target_size, seed=0)
    return Model(
        network,
        {
            **parameters,
            "head.W_y": 0 * parameters["head.W_y"],
            "head.b_y": np.array(outputs, np.float32),
        },
    )


def test_a_sequence_is_right_if_every_output_is_within_the_tolerance():
    sequences = list(long_lags.drawn(TEMPORAL_ORDER, 100, seed=0, stream=JUDGED))
    of_first_class = sum(each.target[0] == 1 for each in sequences)

    for outputs, right in (
        ([1, 0, 0, 0], of_first_class),
        ([0.71, 0.29, -0.29, 0.29], of_first_class),
        ([0.69, 0, 0, 0], 0),
        ([1, 0, 0, 0.31], 0),
    ):
        model = constant(TEMPORAL_ORDER, outputs)
        assert long_lags.wrong(TEMPORAL_ORDER, model, sequences) == 100 - right


HOURS = np.arange(etth1.TEST, dtype=float)[:, np.newaxis] + 1e5 * np.arange(7)
"""Each value says which hour of which series it is."""


SETTINGS = [etth1.DAY_AHEAD, etth1.FOUR_DAYS_AHEAD]


def silent(setting):
    """Return a model that predicts no change."""
    network = Network("gru", 1)
    parameters = network.initialize(setting.columns.input_size, setting.horizon, seed=0)
    return Model(network, {**parameters, "head.W_y": 0 * parameters["head.W_y"]})


@pytest.mark.parametrize("setting", SETTINGS)
def test_training_sequences_of_etth1_end_with_the_training_part(setting):
    horizon = setting.horizon
    learned = list(etth1.sequences(HOURS[: etth1.TRAIN], setting))

    assert max(each.until for each in learned) == etth1.TRAIN - 1
    ends = np.sort(np.concatenate([each.times for each in learned]))
    every = np.arange(23, etth1.TRAIN - horizon)  # each that has a day before and the hours after
    np.testing.assert_array_equal(ends, np.repeat(every, 7))
    for each in learned:
        days, steps = each.inputs[:, :24], each.times
        np.testing.assert_array_equal(days, np.tile(np.arange(-23, 1), (len(steps), 1)))
        np.testing.assert_array_equal(
            each.targets, np.tile(np.arange(1, horizon + 1), (len(steps), 1))
        )
        assert (np.diff(steps) == 24).all()


@pytest.mark.parametrize(
    ("setting", "windows"), list(zip(SETTINGS, (2857, 2785), strict=True)), ids=["24", "96"]
)
def test_a_window_of_etth1_for_each_hour_of_the_test_part(setting, windows):
    horizon = setting.horizon
    origins = etth1.windows(etth1.VALIDATION, etth1.TEST, horizon)
    true = etth1.truth(HOURS, origins, horizon)

    assert true.shape == (windows, 7, horizon)
    assert true[0, 0, 0] == etth1.VALIDATION
    assert true[-1, 0, -1] == etth1.TEST - 1
    last = etth1.last_value(HOURS, origins, horizon)
    np.testing.assert_array_equal(true - last, np.broadcast_to(np.arange(horizon) + 1, true.shape))
    yesterday = etth1.same_hour(HOURS, origins, horizon)
    assert (yesterday < true[:, :, :1]).all()
    assert ((true - yesterday) % 24 == 0).all()
    said = etth1.forecasts(silent(setting), HOURS, origins, setting)
    np.testing.assert_array_equal(said, last)


def test_a_forecast_of_etth1_does_not_see_what_it_forecasts():
    network = Network("gru", 4)
    setting = etth1.DAY_AHEAD
    model = Model(network, network.initialize(setting.columns.input_size, 24, seed=0))
    random = np.random.default_rng(0)
    scaled = random.normal(size=(240, 7))
    origins = etth1.windows(120, 240, 24)
    changed = scaled.copy()
    changed[151:] = 0

    said, said_of_changed = (
        etth1.forecasts(model, values, origins, setting) for values in (scaled, changed)
    )

    before = origins <= 150
    np.testing.assert_array_equal(said[before], said_of_changed[before])
    assert (said[~before] != said_of_changed[~before]).any((1, 2)).all()


@needs("ETTh1.csv")
@pytest.mark.parametrize(
    ("horizon", "name", "squared", "absolute"),
    [
        (24, "last value", 1.222, 0.671),
        (24, "same hour of the last day", 0.424, 0.389),
        (24, "ridge, 96 hours", 0.297, 0.343),
        (96, "last value", 1.294, 0.713),
        (96, "same hour of the last day", 0.512, 0.433),
        (96, "ridge, 96 hours", 0.383, 0.390),
    ],
)
def test_forecasts_of_etth1_that_need_no_network_have_the_known_errors(
    horizon, name, squared, absolute
):
    scaled = etth1.read(DATA)
    origins = etth1.windows(etth1.VALIDATION, etth1.TEST, horizon)
    error = etth1.NAIVE[name](scaled, origins, horizon) - etth1.truth(scaled, origins, horizon)

    assert (error**2).mean() == pytest.approx(squared, abs=6e-4)
    assert np.abs(error).mean() == pytest.approx(absolute, abs=6e-4)


PIECES = {
    "train": [[[60, 64], [60], []], [[62], [62, 65]]],
    "valid": [[[59], [60], [61]]],
    "test": [[[60], [64], [60]]],
}


def test_a_chord_is_the_keys_that_sound():
    keys = chorales.roll([[21, 108], [], [60]])

    assert [list(np.flatnonzero(step)) for step in keys] == [[0, 87], [], [39]]
    classes = chorales.seen(keys)[:, 88:]
    assert [list(np.flatnonzero(step)) for step in classes] == [[0, 9], [], [0]]
    higher = chorales.roll([[60]], semitones=3)
    assert list(np.flatnonzero(higher)) == [42]


def test_exactly_the_validation_pieces_are_held_out():
    learned, validated = (
        [chorales.roll(piece) for piece in PIECES[part]] for part in ("train", "valid")
    )
    sequences, share = chorales.data_of(learned, validated)
    halves = hold_back(sequences, share, Network("gru", 1))

    for half, keys in zip(halves, (learned, validated), strict=True):
        assert [each.inputs[:, :88].tobytes() for each in half] == [e[:-1].tobytes() for e in keys]
        assert [each.targets.tobytes() for each in half] == [each[1:].tobytes() for each in keys]
    assert all(each.weights.all() for each in halves[1])


def test_each_chord_but_the_first_is_predicted_from_those_before():
    network = Network("gru", 4, output="sigmoid")
    model = Model(network, network.initialize(100, 88, seed=0))
    pieces = [chorales.roll(piece) for piece in PIECES["train"]]

    said = chorales.predicted(model, pieces)

    assert said.shape == (3, 88)
    for step, keys in enumerate((pieces[0][:1], pieces[0][:2], pieces[1][:1])):
        alone = model.forward(chorales.seen(keys)[np.newaxis])[0, -1]
        np.testing.assert_allclose(said[step], alone, rtol=1e-5)


def test_the_likelihood_is_summed_over_keys_and_its_mean_taken_over_steps():
    keys = chorales.roll([[60], [60, 64]])
    p = np.full(keys.shape, 0.25)

    expected = -(3 * np.log(0.25) + (2 * 88 - 3) * np.log(0.75)) / 2
    assert chorales.negative_log_likelihood(p, keys) == pytest.approx(expected)


@needs("jsb-chorales-quarter.json")
def test_the_chorales_have_the_known_pieces_and_floors():
    pieces = chorales.read(DATA)
    rolls = {part: [chorales.roll(piece) for piece in some] for part, some in pieces.items()}

    assert {part: len(some) for part, some in pieces.items()} == {
        "train": 229,
        "valid": 76,
        "test": 77,
    }
    floors = chorales.naive(rolls["train"], rolls["test"])
    assert floors["marginal"] == pytest.approx(11.09, abs=6e-3)
    assert floors["previous value"] == pytest.approx(10.49, abs=6e-3)


ROW_OF = {
    "adding": None,
    "chorales": "jsb-chorales-quarter.json",
    "etth1-24": "ETTh1.csv",
    "additions-2": None,
    "nab": None,
    "sentiment": "rt-polarity",
}
"""A row of each module, and the file that it needs."""


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=[needs(name)] if name else []) for row, name in ROW_OF.items()]
)
def test_a_single_row_runs_and_writes_its_figures(row, tmp_path, capsys):
    output = tmp_path / "rows.json"
    accuracy.main(["--quick", "--only", row, "--data", str(DATA), "--json", str(output)])

    (value,) = json.loads(output.read_text())
    assert value["row"] == row
    assert value["ours"] == value["figures"][0]
    higher_is_better = row in ("additions-2", "nab", "sentiment")
    better = operator.ge if higher_is_better else operator.le
    assert value["reached"] == better(value["ours"], value["beside"][value["goal"]])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (row, *value["beside"]))


@pytest.mark.parametrize("name", translation.TASKS)
def test_no_test_pair_is_in_the_training_set(name):
    pairs, fresh = translation.drawn(translation.TASKS[name], seed=5, samples=3000)

    assert (len(pairs), len(fresh)) == (3000, translation.FRESH)
    assert not {pair.source for pair in pairs} & {pair.source for pair in fresh}


def test_a_row_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        accuracy.main(["--only", "adding,subtracting"])

    error = capsys.readouterr().err
    assert f"there is no row subtracting: choose from {', '.join(accuracy.ROWS)}" in error


def test_a_row_without_its_data_is_skipped(tmp_path, capsys):
    output = tmp_path / "rows.json"
    accuracy.main(["--only", "etth1-24", "--data", str(tmp_path), "--json", str(output)])

    assert f"skipped: there is no {tmp_path / 'ETTh1.csv'}" in capsys.readouterr().out
    assert json.loads(output.read_text()) == []
