"""ETTh1, seven hourly series of an electricity transformer: the next 24 or 96 hours of each.

The protocol is Informer's (Zhou 2021), multivariate: twelve months of 30 days for training, four
for validation, four for testing. Each series is standardised with the mean and the standard
deviation of the first twelve months. There is a window for each hour of the test part that is
followed by enough hours: 2,857 for 24 hours ahead, 2,785 for 96. The figure is the mean squared
error of the scaled values, over windows, series and hours.

The naive forecasts follow the same protocol: the last value, the value at the same hour of the last
day, and ridge regression on the differences of the last 96 or 336 values from the last one
(NLinear, Zeng 2023, with a penalty of 100 and a regression per series). The published figures at 96
hours are from SegRNN's paper (Lin 2023), which looks back 720 hours.

Two ideas are from SegRNN: a step is a segment of a day, and all hours ahead are predicted at once,
as changes from the last value. A record is a day, which may end at any hour: each series has 24
sequences of days, with a key for each hour at which they end, and one GRU predicts all of them. Its
inputs are the differences of the day's values from the last one, the change of the last value since
the previous day, and the mean of the day; for 24 hours ahead also a one-hot code of the series. A
training sequence has 90 days; in the test the hidden state is carried through all previous days.
The loss is the absolute error, and the forecast is the mean of five seeds. All settings were chosen
on the validation part, and on the last four months of the training part after training on the first
eight.
"""

import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from beam_rnn import Bptt, Columns, Model, Network, Training
from beam_rnn import Sequence as Steps
from beam_rnn.core.arrays import Array
from beam_rnn.optim import Adam, Cosine
from beam_rnn.training.fit import fit_sequences
from benchmarks.tasks.outcome import Outcome

DAY = 24
TRAIN, VALIDATION, TEST = 8640, 11520, 14400
"""The hours at which the parts end."""
LENGTH = 90
SEEDS = range(5)
SERIES = 7
PUBLISHED = {
    24: {"Informer": 0.577, "LSTMa": 0.650},
    96: {"SegRNN": 0.351, "PatchTST": 0.375, "DLinear": 0.381, "plain GRU": 1.135},
}


def read(folder: Path) -> Array:
    """Return the scaled values, (hours, series), up to the end of the test part."""
    with (folder / "ETTh1.csv").open() as file:
        _, *rows = csv.reader(file)
    values = np.array([[float(value) for value in row[1:]] for row in rows[:TEST]])
    return (values - values[:TRAIN].mean(0)) / values[:TRAIN].std(0)


def days(series: Array, phase: int) -> tuple[Array, Array]:
    """Return the days of a series, (days, 24), that begin at an hour, and their last hours."""
    count = (len(series) - phase) // DAY
    ends = phase + DAY * np.arange(1, count + 1) - 1
    return series[phase : phase + DAY * count].reshape(count, DAY), ends


class Setting(NamedTuple):
    """The forecast and its inputs.

    Attributes:
        horizon: The number of hours ahead.
        goal: The name of the naive forecast to beat.
        one_hot: True if the series is an input, as a one-hot code.
    """

    horizon: int
    goal: str
    one_hot: bool

    @property
    def columns(self) -> Columns:
        """The columns of a day and of the hours after it."""
        seen = [*(f"hour{hour}" for hour in range(DAY)), "change", "mean"]
        which = [f"series{name}" for name in range(SERIES)] if self.one_hot else []
        ahead = [f"hour+{hour}" for hour in range(1, self.horizon + 1)]
        return Columns(key="series and hour", inputs=seen + which, targets=ahead, horizon=0)


DAY_AHEAD = Setting(24, "ridge, 96 hours", one_hot=True)
FOUR_DAYS_AHEAD = Setting(96, "ridge, 336 hours", one_hot=False)


def inputs_of(values: Array, series: int | None) -> Array:
    """Return the inputs of days (days, 24); with the series as a one-hot code if given."""
    last = values[:, -1:]
    before = np.concatenate([last[:1], last[:-1]])
    seen = [values - last, last - before, values.mean(1, keepdims=True)]
    if series is not None:
        seen.append(np.tile(np.eye(SERIES)[series], (len(values), 1)))
    return np.concatenate(seen, 1)


def ahead_of(series: Array, ends: Array, horizon: int) -> Array:
    """Return the hours after each day: (len(ends), horizon)."""
    return sliding_window_view(series, horizon)[ends + 1]


def sequences(scaled: Array, setting: Setting) -> Iterator[Steps]:
    """Yield all days whose hours ahead are in `scaled`, as training sequences."""
    columns, horizon = setting.columns, setting.horizon
    for name, series in enumerate(scaled.T):
        for phase in range(DAY):
            values, ends = days(series[:-horizon], phase)
            x = inputs_of(values, name if setting.one_hot else None)
            changes = ahead_of(series, ends, horizon) - values[:, -1:]
            for first in range(0, len(ends), LENGTH):
                part = slice(first, first + LENGTH)
                until = int(ends[part][-1]) + horizon
                yield Steps(columns, f"{name} {phase}", ends[part], x[part], changes[part], until)


def windows(begin: int, end: int, horizon: int) -> Array:
    """Return the last known hour of each window whose hours ahead are in [begin, end)."""
    return np.arange(begin, end - horizon + 1) - 1


def truth(scaled: Array, origins: Array, horizon: int) -> Array:
    """Return the true values after each hour: (origins, series, horizon)."""
    return sliding_window_view(scaled, horizon, axis=0)[origins + 1]


def forecasts(model: Model, scaled: Array, origins: Array, setting: Setting) -> Array:
    """Return the forecasts after each hour, with the state carried through all previous days."""
    found = np.empty((len(scaled), SERIES, setting.horizon))
    for phase in range(DAY):
        of_series = [days(series, phase) for series in scaled.T]
        x = [
            inputs_of(values, name if setting.one_hot else None)
            for name, (values, _) in enumerate(of_series)
        ]
        y = model.forward(np.stack(x))
        for name, (values, ends) in enumerate(of_series):
            found[ends, name] = values[:, -1:] + y[name]
    return found[origins]


def last_value(scaled: Array, origins: Array, horizon: int) -> Array:
    """Return the last value."""
    return np.repeat(scaled[origins][:, :, np.newaxis], horizon, 2)


def same_hour(scaled: Array, origins: Array, horizon: int) -> Array:
    """Return the value at the same hour of the last day."""
    hours = origins[:, np.newaxis] - DAY + 1 + np.arange(horizon) % DAY
    return scaled[hours].swapaxes(1, 2)


def ridge(steps: int, scaled: Array, origins: Array, horizon: int) -> Array:
    """Forecast by ridge regression on differences from the last value, for each series."""
    learned = windows(steps, TRAIN, horizon)

    def seen(series: Array, at: Array) -> Array:
        x = sliding_window_view(series, steps)[at - steps + 1] - series[at, np.newaxis]
        return np.concatenate([x, np.ones((len(x), 1))], 1)

    forecasts_of = []
    for series in scaled.T:
        x = seen(series, learned)
        changes = ahead_of(series, learned, horizon) - series[learned, np.newaxis]
        weights = np.linalg.solve(x.T @ x + 100 * np.eye(steps + 1), x.T @ changes)
        forecasts_of.append(seen(series, origins) @ weights + series[origins, np.newaxis])
    return np.stack(forecasts_of, 1)


NAIVE: dict[str, Callable[[Array, Array, int], Array]] = {
    "last value": last_value,
    "same hour of the last day": same_hour,
    "ridge, 96 hours": partial(ridge, 96),
    "ridge, 336 hours": partial(ridge, 336),
}


def learned(scaled: Array, setting: Setting, seed: int, epochs: int) -> Model:
    """Train a GRU of 128 units on the given hours."""
    data = list(sequences(scaled, setting))
    steps = sum(-(-len(each.times) // 30) for each in data) * epochs // 32
    training = Training(
        bptt=Bptt(steps=30),
        loss="mae",
        optimizer=Adam(Cosine(5e-3, steps=steps, final=1e-4)),
        epochs=epochs,
        batch_size=32,
        scaler="none",
        kernel="fused",
        seed=seed,
    )
    return fit_sequences(Network("gru", hidden=128), data, training)


def outcome(setting: Setting, folder: Path, *, quick: bool) -> Outcome:
    """Return the test errors of each seed and of the mean of their forecasts."""
    scaled = read(folder)
    horizon = setting.horizon
    origins = windows(VALIDATION, TEST, horizon)
    true = truth(scaled, origins, horizon)

    def error(forecast: Array) -> float:
        return float(np.square(forecast - true).mean())

    seeds, epochs, hours = (SEEDS[:1], 1, 20 * DAY) if quick else (SEEDS, 6, TRAIN)
    models = [learned(scaled[:hours], setting, seed, epochs) for seed in seeds]
    of_seeds = [forecasts(model, scaled, origins, setting) for model in models]
    together = np.mean(of_seeds, 0)
    names = [setting.goal] if quick else NAIVE
    beside = {name: error(NAIVE[name](scaled, origins, horizon)) for name in names}
    return Outcome(
        f"mean squared error, {horizon} hours ahead",
        tuple(map(error, of_seeds)),
        goal=setting.goal,
        beside={**beside, **PUBLISHED[horizon]},
        together=error(together),
        facts={"mean_absolute_error": float(np.abs(together - true).mean())},
    )


ROWS = {
    f"etth1-{setting.horizon}": partial(outcome, setting)
    for setting in (DAY_AHEAD, FOUR_DAYS_AHEAD)
}
