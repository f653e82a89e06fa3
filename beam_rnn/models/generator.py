"""Generates sequences: values are drawn from the outputs of a model and fed back as its inputs.

First the prompt is stepped. Then values are drawn from the last outputs and fed back as the inputs
of the next step, repeatedly. The values depend only on the seed, the key and the number of the
sample, and a row of a batch only on itself: a sequence is the same in every batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_number, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.core.hashed_random import origin_of, uniforms
from beam_rnn.data.columns import Columns
from beam_rnn.data.scaling import Scaler, Scaling
from beam_rnn.models.feedback import check_fed_back, feedback_of
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.nn.network import Network
from beam_rnn.nn.sampling import Sampling

SECONDS_AT_MOST = 1e9
"""The maximum time between a prompt and the end of its sequence: some thirty years."""
NUMBERS_AT_MOST = 4_000_000
"""The maximum number of values generated at once, unless one sequence has more."""
ROWS_AT_MOST = 1024
"""The maximum number of sequences generated at once."""


@dataclass(frozen=True)
class Generation:
    """How sequences are generated, and how many.

    Args:
        length: The maximum number of generated steps.
        stop: The class that ends a sequence; None to generate `length` steps.
        temperature: Values are drawn with probabilities proportional to p^(1/temperature): 1 as
            learned, 0 for the most likely value.
        top_k: Of classes, draw only from the k most likely; None for all.
        seed: With the key and the number of the sample, it determines every value drawn.
        samples: The number of sequences per prompt.
        every: The seconds between two generated records: for models that see the calendar.

    Raises:
        ConfigurationError: A value outside its range, or several samples that would be equal.
    """

    length: int
    stop: str | int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0
    samples: int = 1
    every: float | None = None

    def __post_init__(self) -> None:
        check_whole("length", self.length)
        check_whole("samples", self.samples)
        check_whole("seed", self.seed, least=0)
        check_number("temperature", self.temperature)
        if self.top_k is not None:
            check_whole("top_k", self.top_k)
        if self.stop is not None and (
            not isinstance(self.stop, (str, int)) or isinstance(self.stop, bool)
        ):
            raise ConfigurationError(f"stop must be a class, got {self.stop!r}")
        if self.every is not None:
            check_number("every, in seconds,", self.every)
            if not 1e-6 <= self.every * self.length < SECONDS_AT_MOST:
                raise ConfigurationError(
                    f"every must be above 0, and below {SECONDS_AT_MOST:g} seconds for all "
                    f"length={self.length} steps together, got every={self.every!r}"
                )
        if self.samples > 1 and (self.temperature == 0 or self.top_k == 1):
            raise ConfigurationError(
                f"temperature={self.temperature!r} and top_k={self.top_k!r} leave nothing random: "
                f"samples={self.samples} would all be the same"
            )

    def check(self, models: Models) -> None:
        """Raise if a model cannot generate sequences, or not in this way.

        Raises:
            ConfigurationError: It cannot; the message says why.
        """
        network, columns = models.network, models.columns
        if columns is None:
            raise ConfigurationError("Generate needs a model with columns: train it in a pipeline")
        _check_network(network, columns)
        check_fed_back(columns)
        if columns.calendar and self.every is None:
            raise ConfigurationError(
                f"the model sees the calendar={list(columns.calendar)}: set every= to the seconds "
                "between two generated records"
            )
        classes = list(map(str, columns.classes))
        if self.stop is not None and str(self.stop) not in classes:
            raise ConfigurationError(f"stop must be one of the classes {classes}, got {self.stop}")
        if self.top_k is not None and not network.distribution.classes:
            raise ConfigurationError(
                f"top_k is for classes, got top_k={self.top_k} and output={network.output!r}"
            )
        if self.samples > 1 and not network.distribution.is_random:
            raise ConfigurationError(
                f"output={network.output!r} gives one number, and no probabilities: "
                f"samples={self.samples} would all be the same"
            )


def _check_network(network: Network, columns: Columns) -> None:
    """Raise if a network cannot step from record to record, or does not predict the next one."""
    for name, value, needed in (
        ("bidirectional", network.bidirectional, False),
        ("output_steps", network.output_steps, "every"),
        ("carry", network.carry, True),
    ):
        if value != needed:
            raise ConfigurationError(
                f"Generate steps from record to record, which a network with {name}={value!r} does "
                f"not: train one with {name}={needed!r}"
            )
    if 1 not in columns.horizons:
        raise ConfigurationError(
            f"Generate needs a prediction of the next record, a horizon of 1, got horizon="
            f"{columns.horizon!r}"
        )


class Prompt(NamedTuple):
    """The records at the start of a sequence.

    Attributes:
        key: The key.
        times: (steps,) int64, the event times, in microseconds since 1970.
        numbers: (steps, numbers) float64, the inputs of each record, not scaled.
    """

    key: str
    times: Array
    numbers: Array


class Continuation(NamedTuple):
    """The sequence that a model generated after a prompt.

    Attributes:
        prompt: The index of the prompt, from 0.
        sample: The number of the sample, from 1.
        values: (steps, targets) float64, in the targets' units; of classes (steps,) int. The
            class that stopped the sequence is not included.
        log_probability: The sum of log p of all values drawn, or of the log of the density; None
            if the output gives no probability.
        reason: Why it ended: "length" or "stop"; "range" if the next step overflowed.
    """

    prompt: int
    sample: int
    values: Array
    log_probability: float | None
    reason: str


class Read(NamedTuple):
    """The states after the prompts, a row each.

    Attributes:
        state: (prompts, state_size), after the last good step.
        outputs: (prompts, targets, parts), the prediction of the next record.
        last: (prompts,), the index of that step; -1 if there is none.
        bad: The indices of prompt and record of each step that overflowed.
    """

    state: Array
    outputs: Array
    last: Array
    bad: list[tuple[int, int]]


class Running(NamedTuple):
    """Sequences that have not ended, a row each.

    Attributes:
        row: (running,), the index among the rows of the batch.
        origins: (running,) uint64, the start of the random numbers of each.
        scaling: The scaling of each row's key.
        times: (running,), the event time of the last record of each prompt.
        numbers: (running, numbers), the inputs of the last record.
        state: (running, state_size), after the last record.
        outputs: (running, targets, parts), the prediction of the next record.
    """

    row: Array
    origins: Array
    scaling: Scaling
    times: Array
    numbers: Array
    state: Array
    outputs: Array

    def only(self, which: Array) -> "Running":
        """Return some of the rows."""
        return Running._make(
            _rows(part, which) if isinstance(part, Scaling) else part[which] for part in self
        )


class Generator:
    """Generates sequences with one model.

        >>> columns = Columns(key="id", inputs=["x"])
        >>> network = Network("gru", hidden=4)
        >>> model = Model(network, network.initialize(inputs=1, outputs=1, seed=0), columns)
        >>> prompt = Prompt("a", np.array([0]), np.array([[0.5]]))
        >>> generator = Generator(model, Generation(length=3))
        >>> [(each.values.shape, each.reason) for each in generator.generate([prompt])]
        [((3, 1), 'length')]

    Args:
        model: The model, whose numbers are float32 or float64.
        how: How sequences are generated.

    Raises:
        ConfigurationError: The model cannot generate sequences, or not in this way.
    """

    def __init__(self, model: Model, how: Generation):
        how.check(model)
        assert model.columns is not None, "checked above"
        columns = model.columns
        self.model, self.how = model, how
        self._feedback = feedback_of(columns)
        self._horizon = columns.horizons.index(1)
        self._targets = columns.target_size
        self._classes = list(map(str, columns.classes))
        self._scaler = model.scaler or Scaler.identity(columns.number_size, columns.target_size)

    @property
    def rows_at_once(self) -> int:
        """The number of sequences that are generated together."""
        each = self.how.length * (1 if self._classes else self._targets)
        return min(max(NUMBERS_AT_MOST // each, 1), ROWS_AT_MOST)

    def read(self, prompts: Sequence[Prompt]) -> Read:
        """Step the prompts; a step that overflows is skipped."""
        n, model = len(prompts), self.model
        lengths = np.array([len(prompt.times) for prompt in prompts])
        longest_first = np.argsort(-lengths, kind="stable")
        scaling = self._scaling(prompts)
        read = Read(
            model.initial_state(n),
            np.zeros((n, self._targets, len(model.network.parts))),
            np.full(n, -1),
            [],
        )
        for t in range(lengths.max(initial=0)):
            rows = longest_first[: np.count_nonzero(lengths > t)]
            numbers = np.array([prompts[row].numbers[t] for row in rows])
            state, outputs, good = self._step(read.state[rows], numbers, _rows(scaling, rows))
            read.state[rows[good]], read.outputs[rows[good]] = state[good], outputs[good]
            read.last[rows[good]] = t
            read.bad.extend((int(row), t) for row in rows[~good])
        return read

    def generate(
        self, prompts: Sequence[Prompt], read: Read | None = None
    ) -> Iterator[Continuation]:
        """Yield `samples` sequences for each prompt that has a good step.

        Args:
            prompts: The prompts.
            read: The result of `read`; None to compute it.
        """
        read = read or self.read(prompts)
        samples = np.arange(1, self.how.samples + 1)
        rows = [(i, int(k)) for i in np.flatnonzero(read.last >= 0).tolist() for k in samples]
        for start in range(0, len(rows), self.rows_at_once):
            yield from self._continue(prompts, read, rows[start : start + self.rows_at_once])

    def _continue(
        self, prompts: Sequence[Prompt], read: Read, rows: Sequence[tuple[int, int]]
    ) -> Iterator[Continuation]:
        """Yield the sequences of some prompts and samples, a row each."""
        running = self._begun(prompts, read, rows)
        steps: list[tuple[Array, Array]] = []  # the rows that run at each step, and their values
        log_probability = np.zeros(len(rows))
        reasons = np.full(len(rows), "length", dtype=object)
        for step in range(self.how.length):
            if step:
                running, good = self._fed_back(running, steps[-1][1], step)
                reasons[running.row[~good]] = "range"
                running = running.only(good)
            values, log_p = self._draw(running.outputs, running.origins, step)
            log_probability[running.row] += log_p
            stops = self._stops(values)
            reasons[running.row[stops]] = "stop"
            running = running.only(~stops)
            steps.append((running.row, values[~stops]))
            if not len(running.row):
                break
        known = self.model.network.distribution.has_probability
        for row, values in enumerate(_by_row(steps, len(rows))):
            p = float(log_probability[row]) if known else None
            yield Continuation(*rows[row], values, p, str(reasons[row]))

    def _begun(
        self, prompts: Sequence[Prompt], read: Read, rows: Sequence[tuple[int, int]]
    ) -> Running:
        """Return the sequences before anything is generated."""
        at = np.array([i for i, _ in rows])
        seed = self.how.seed
        return Running(
            np.arange(len(rows)),
            np.array([origin_of(seed, prompts[i].key, sample) for i, sample in rows], np.uint64),
            self._scaling([prompts[i] for i in at]),
            np.array([prompts[i].times[read.last[i]] for i in at]),
            np.array([prompts[i].numbers[read.last[i]] for i in at]),
            read.state[at],
            read.outputs[at],
        )

    def _fed_back(self, running: Running, values: Array, step: int) -> tuple[Running, Array]:
        """Return the sequences after a step with the values drawn, and which rows are finite."""
        times = running.times + round((self.how.every or 0) * 1e6 * step)
        numbers = self._feedback.after(running.numbers, values, times)
        state, outputs, good = self._step(running.state, numbers, running.scaling)
        return running._replace(numbers=numbers, state=state, outputs=outputs), good

    def _scaling(self, prompts: Sequence[Prompt]) -> Scaling:
        """Return the scaling of each prompt's key, a row each."""
        each = zip(*(self._scaler.of(prompt.key) for prompt in prompts), strict=True)
        return Scaling(*(np.stack(arrays) for arrays in each))

    def _step(self, state: Array, numbers: Array, scaling: Scaling) -> tuple[Array, Array, Array]:
        """Return the states after a step, the predictions, and which rows are finite."""
        model = self.model
        with default_arithmetic():
            x = scaling.scale_inputs(numbers).astype(model.dtype)
            state, y = model.step(state, x)
            restored = scaling.restore_targets(y.astype(np.float64), model.network.parts)
        good = ~np.isinf(x).any(1) & np.isfinite(state).all(1) & np.isfinite(restored).all(1)
        by_horizon = restored.reshape(len(x), -1, self._targets, len(model.network.parts))
        return state, by_horizon[:, self._horizon], good

    def _draw(self, outputs: Array, origins: Array, step: int) -> tuple[Array, Any]:
        """Return the values of the next record of each row, and log p of them, or 0."""
        how, output = self.how, self.model.network.distribution
        n = 1 if output.classes else self._targets
        u = uniforms(origins, step * n, n)
        values, log_p = output.draw(outputs, u, Sampling(how.temperature, how.top_k))
        if output.classes and not self._classes:
            values = np.eye(self._targets)[values]
        return values, 0.0 if log_p is None else log_p

    def _stops(self, values: Array) -> Array:
        """Return which rows have drawn the class that ends a sequence."""
        if self.how.stop is None:
            return np.zeros(len(values), bool)
        return values == self._classes.index(str(self.how.stop))


def _rows(scaling: Scaling, rows: Array) -> Scaling:
    """Return some of the rows."""
    return Scaling(*(array[rows] for array in scaling))


def _by_row(steps: Sequence[tuple[Array, Array]], n: int) -> list[Array]:
    """Return the values of each of n rows, from the rows and the values of each step."""
    rows = np.concatenate([row for row, _ in steps])
    values = np.concatenate([of_step for _, of_step in steps])
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=n)
    return np.split(values[order], np.cumsum(counts)[:-1])
