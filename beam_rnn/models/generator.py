"""Sequences that a model writes: what it says of the next record, it is given as that record.

A prompt is stepped; then, again and again, values are drawn from the last outputs and fed back as
the inputs of the next step. What is drawn depends on the seed, the key and the number of the
sample alone, and a row of a batch on itself alone: the same sequence comes out in every batch.
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
from beam_rnn.models.sampling import draw_between, draw_class, draw_each, draw_gaussian
from beam_rnn.nn.network import Network

SECONDS_AT_MOST = 1e9
"""So long after its prompt a sequence may go on: the calendar of some thirty years."""
NUMBERS_AT_MOST = 4_000_000
"""So many values are generated at once, at the most, unless one sequence has more."""
ROWS_AT_MOST = 1024
"""So many sequences are generated at once."""

WITH_PROBABILITY = ("softmax", "sigmoid", "gaussian")
"""The outputs that say how likely a value is; quantiles say only between which it lies."""


@dataclass(frozen=True)
class Generation:
    """How sequences are generated, and how many.

    Args:
        length: How many steps are generated at the most.
        stop: The class with which a sequence ends; None to go on to its length.
        temperature: Values are drawn with probabilities in proportion to p^(1/temperature): 1 as
            learned, 0 for the most likely one.
        top_k: Of classes only so many, the most likely ones, are drawn; None for any.
        seed: Decides all that is drawn, together with the key and the number of the sample.
        samples: How many sequences follow each prompt.
        every: How many seconds a generated record comes after the one before: for models that see
            the calendar.

    Raises:
        ConfigurationError: A value outside its range, or several samples that are all the same.
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
                f"temperature={self.temperature!r} and top_k={self.top_k!r} leave nothing to "
                f"chance: samples={self.samples} would all be the same"
            )

    def check(self, models: Models) -> None:
        """That a model can generate, and in this way.

        Raises:
            ConfigurationError: It cannot.
        """
        network, columns = models.network, models.columns
        if columns is None:
            raise ConfigurationError("Generate needs a model with columns: train it in a pipeline")
        _check_network(network, columns)
        check_fed_back(columns)
        if columns.calendar and self.every is None:
            raise ConfigurationError(
                f"the model sees the calendar={list(columns.calendar)}: say in every= how many "
                "seconds a generated record comes after the one before"
            )
        classes = list(map(str, columns.classes))
        if self.stop is not None and str(self.stop) not in classes:
            raise ConfigurationError(f"stop must be one of the classes {classes}, got {self.stop}")
        if self.top_k is not None and network.output != "softmax":
            raise ConfigurationError(
                f"top_k is for classes, got top_k={self.top_k} and output={network.output!r}"
            )
        chance = network.output in WITH_PROBABILITY or len(network.parts) > 1
        if self.samples > 1 and not chance:
            raise ConfigurationError(
                f"output={network.output!r} says one number, not how likely others are: "
                f"samples={self.samples} would all be the same"
            )


def _check_network(network: Network, columns: Columns) -> None:
    """That a network steps from record to record, and says the next one."""
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
            f"Generate needs what the next record is, a horizon of 1, got horizon="
            f"{columns.horizon!r}"
        )


class Prompt(NamedTuple):
    """What a sequence begins with.

    Attributes:
        key: Whose it is.
        times: (steps,) int64, the event times, in microseconds since 1970.
        numbers: (steps, numbers) float64, what the network sees of each record, as recorded.
    """

    key: str
    times: Array
    numbers: Array


class Continuation(NamedTuple):
    """What a model wrote after a prompt.

    Attributes:
        prompt: Which prompt: 0 for the first.
        sample: Which of its sequences: 1 for the first.
        values: (steps, targets) float64, in the targets' units; of classes (steps,) int, which.
            That with which it stopped is not among them.
        log_probability: The sum of log p of all that was drawn, of numbers the log of the
            density; None where the network says none.
        reason: "length" or "stop"; "range" if the next step left the range of numbers.
    """

    prompt: int
    sample: int
    values: Array
    log_probability: float | None
    reason: str


class Read(NamedTuple):
    """Prompts that were stepped, a row each.

    Attributes:
        state: (prompts, state_size), after the last good step.
        outputs: (prompts, targets, parts), what the network says of the next record.
        last: (prompts,), the place of that step; -1 if there is none.
        bad: The prompt and the place of each record whose step left the range of numbers.
    """

    state: Array
    outputs: Array
    last: Array
    bad: list[tuple[int, int]]


class Running(NamedTuple):
    """Sequences that go on, a row each.

    Attributes:
        row: (running,), which of the rows that were begun.
        origins: (running,) uint64, where the chance of each begins.
        scaling: That of each row's key.
        times: (running,), the event time of the last record of each prompt.
        numbers: (running, numbers), of the last record.
        state: (running, state_size), after it.
        outputs: (running, targets, parts), what the network says of the next record.
    """

    row: Array
    origins: Array
    scaling: Scaling
    times: Array
    numbers: Array
    state: Array
    outputs: Array

    def only(self, which: Array) -> "Running":
        """Some of the rows."""
        return Running._make(
            _rows(part, which) if isinstance(part, Scaling) else part[which] for part in self
        )


class Generator:
    """Generates with one model.

        >>> columns = Columns(key="id", inputs=["x"])
        >>> network = Network("gru", hidden=4)
        >>> model = Model(network, network.initialize(inputs=1, outputs=1, seed=0), columns)
        >>> prompt = Prompt("a", np.array([0]), np.array([[0.5]]))
        >>> generator = Generator(model, Generation(length=3))
        >>> [(each.values.shape, each.reason) for each in generator.generate([prompt])]
        [((3, 1), 'length')]

    Args:
        model: The model, whose numbers are float32 or float64.
        how: How.

    Raises:
        ConfigurationError: The model cannot generate, or not in this way.
    """

    def __init__(self, model: Model, how: Generation):
        how.check(model)
        assert model.columns is not None, "it was checked"
        columns = model.columns
        self.model, self.how = model, how
        self._feedback = feedback_of(columns)
        self._horizon = columns.horizons.index(1)
        self._targets = columns.target_size
        self._classes = list(map(str, columns.classes))
        self._scaler = model.scaler or Scaler.identity(columns.number_size, columns.target_size)

    @property
    def rows_at_once(self) -> int:
        """So many sequences are generated together."""
        each = self.how.length * (1 if self._classes else self._targets)
        return min(max(NUMBERS_AT_MOST // each, 1), ROWS_AT_MOST)

    def read(self, prompts: Sequence[Prompt]) -> Read:
        """Step the prompts; a step that leaves the range of numbers is as if it had not been."""
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
        """What follows each prompt of which a step is good: `samples` sequences.

        Args:
            prompts: The prompts.
            read: What `read` gave for them.
        """
        read = read or self.read(prompts)
        samples = np.arange(1, self.how.samples + 1)
        rows = [(i, int(k)) for i in np.flatnonzero(read.last >= 0).tolist() for k in samples]
        for start in range(0, len(rows), self.rows_at_once):
            yield from self._continue(prompts, read, rows[start : start + self.rows_at_once])

    def _continue(
        self, prompts: Sequence[Prompt], read: Read, rows: Sequence[tuple[int, int]]
    ) -> Iterator[Continuation]:
        """What follows, for each prompt and sample of `rows`, a row each."""
        running = self._begun(prompts, read, rows)
        steps: list[tuple[Array, Array]] = []  # of each step the rows that run, and their values
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
        known = self.model.network.output in WITH_PROBABILITY
        for row, values in enumerate(_by_row(steps, len(rows))):
            p = float(log_probability[row]) if known else None
            yield Continuation(*rows[row], values, p, str(reasons[row]))

    def _begun(
        self, prompts: Sequence[Prompt], read: Read, rows: Sequence[tuple[int, int]]
    ) -> Running:
        """The sequences before anything is generated."""
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
        """The sequences after the step of what they wrote, and which rows are finite."""
        times = running.times + round((self.how.every or 0) * 1e6 * step)
        numbers = self._feedback.after(running.numbers, values, times)
        state, outputs, good = self._step(running.state, numbers, running.scaling)
        return running._replace(numbers=numbers, state=state, outputs=outputs), good

    def _scaling(self, prompts: Sequence[Prompt]) -> Scaling:
        """The scaling of each prompt's key, a row each."""
        each = zip(*(self._scaler.of(prompt.key) for prompt in prompts), strict=True)
        return Scaling(*(np.stack(arrays) for arrays in each))

    def _step(self, state: Array, numbers: Array, scaling: Scaling) -> tuple[Array, Array, Array]:
        """One step: the states, what is said of the next records, and which rows are finite."""
        model = self.model
        with default_arithmetic():
            x = scaling.scale_inputs(numbers).astype(model.dtype)
            state, y = model.step(state, x)
            restored = scaling.restore_targets(y.astype(np.float64), model.network.parts)
        good = ~np.isinf(x).any(1) & np.isfinite(state).all(1) & np.isfinite(restored).all(1)
        by_horizon = restored.reshape(len(x), -1, self._targets, len(model.network.parts))
        return state, by_horizon[:, self._horizon], good

    def _draw(self, outputs: Array, origins: Array, step: int) -> tuple[Array, Any]:
        """The values of the next record of each row, and log p of them, or 0."""
        how, output = self.how, self.model.network.output
        n = 1 if output == "softmax" else self._targets
        u = uniforms(origins, step * n, n)
        if output == "softmax":
            drawn, log_p = draw_class(outputs[..., 0], u[:, 0], how.temperature, how.top_k)
            return (drawn if self._classes else np.eye(self._targets)[drawn]), log_p
        if output == "sigmoid":
            return draw_each(outputs[..., 0], u, how.temperature)
        if output == "gaussian":
            return draw_gaussian(outputs[..., 0], outputs[..., 1], u, how.temperature)
        if output == "quantiles":
            levels = self.model.network.quantiles
            return draw_between(outputs, levels, u, how.temperature), 0.0
        return outputs[..., 0], 0.0

    def _stops(self, values: Array) -> Array:
        """Which rows have drawn the class with which a sequence ends."""
        if self.how.stop is None:
            return np.zeros(len(values), bool)
        return values == self._classes.index(str(self.how.stop))


def _rows(scaling: Scaling, rows: Array) -> Scaling:
    """Some of the rows."""
    return Scaling(*(array[rows] for array in scaling))


def _by_row(steps: Sequence[tuple[Array, Array]], n: int) -> list[Array]:
    """The values of each of n rows, from the rows and the values of each step."""
    rows = np.concatenate([row for row, _ in steps])
    values = np.concatenate([of_step for _, of_step in steps])
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=n)
    return np.split(values[order], np.cumsum(counts)[:-1])
