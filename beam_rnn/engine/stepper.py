"""A stepper: what turns the records of a key into results, and keeps a state between them.

The lifecycle of a stepper, in the order in which its methods are called:

1. It is made once a worker, by a `beam_rnn.streaming.sources.StepperSource`, with the models that
   the worker has and the `Counters` for what it counts. The keys of that worker share it.
2. `step(key, state, records)` is called whenever records of a key are due. The records are in order
   and none is late or a duplicate: the rules of order (`beam_rnn.engine.order`) have been applied.
   `state` is what the last `step` of this key returned, as bytes; None before the first and after
   `end`. It returns the state to keep and the results in the order of their records. None says that
   there is nothing to keep.
3. `end(key, state, reason)` is called once if the state is removed while the key may still have an
   open sequence: it was idle, or its window was closed. It returns the last results. The caller
   removes the state; a later record of the key begins a new state.

Between two calls a stepper keeps nothing about a key: the state may be stored, and the next call
may be on another worker, or be repeated after a failure. What it may keep are models, compiled
kernels and other values computed from its arguments alone. So equal calls give equal results, bit
for bit, and it makes no difference whether records come in one call or in several.

A record that cannot be stepped gives a dead letter, and everything stays as if it had never been
sent. An error that is raised fails the bundle, and Beam tries it again.
"""

import time as clock
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.data.columns import Columns
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import KeyState
from beam_rnn.records.results import poisoned

OVERFLOWED = "the step overflowed; the state before it was kept"
NO_MODEL = "the key has no model, and there is no fallback"
"""Why a record that could be read cannot be stepped."""


class Counters(Protocol):
    """Where a stepper counts what it does, by the names of the metrics."""

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: int) -> None:
        """Add a value to a distribution."""


class Library(Protocol):
    """The models that a worker has."""

    @property
    def newest(self) -> Models:
        """The model with which sequences begin."""

    def made_by(self, digest: str, kernel: str) -> Model:
        """Return an older model, which an open sequence still uses.

        Raises:
            StateError: It cannot be had.
        """


class Step(NamedTuple):
    """A result, and the record that caused it."""

    record: int  # its place among those that were stepped; -1 if the sequence ended without one
    time: int  # its event time, in microseconds since 1970
    result: Any


class Row(NamedTuple):
    """A result on its way out.

    Attributes:
        result: The row.
        due: The Beam timestamp at which it comes out, in microseconds since 1970;
            `beam_rnn.engine.order.NOW` for that of the element which caused it.
        time: Its event time.
    """

    result: Any
    due: int
    time: int


class Stepper(ABC):
    """Steps the records of a key in order: see the lifecycle above.

    Args:
        columns: How the records are read.
        counters: Where steps are counted.
        idle_after: A sequence ends when its next record is more than this number of microseconds
            after its last one; None for never.
    """

    def __init__(self, columns: Columns, counters: Counters, idle_after: int | None):
        self.columns = columns
        self._counters = counters
        self._idle_after = idle_after

    @abstractmethod
    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """Return the state of a key after its next records, and their results.

        Args:
            key: The key.
            data: Its state so far; None before its first step.
            records: Its next records, encoded, in order.
        """

    @abstractmethod
    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """Return the last results of a key whose state is removed.

        Args:
            key: The key.
            data: Its state.
            reason: "idle" or "window", as in `EndedSequence.reason`.
        """

    def count_steps(self, steps: int, started: float) -> None:
        """Count steps that began at a time of `time.perf_counter`."""
        if steps:
            self._counters.count("num_inferences", steps)
            micros = int((clock.perf_counter() - started) * 1e6)
            self._counters.observe("inference_batch_latency_micro_secs", micros)

    def _ends_before(self, latest: int, time: int, *, starts: bool) -> str | None:
        """Return why an open sequence ends before a record; None if the record belongs to it.

        Args:
            latest: The latest event time of the sequence.
            time: The event time of the record.
            starts: Whether the record has a start mark.
        """
        if self._idle_after is not None and time - latest > self._idle_after:
            return "idle"
        return "start" if starts else None

    def _dead_letter(self, place: int, key: str, time: int, inputs: Array, reason: str) -> Step:
        """Return the dead letter of a record that could be read, but cannot be stepped."""
        self._counters.count("records_invalid")
        return Step(place, time, poisoned(key, time, inputs, reason))


class ModelStepper(Stepper):
    """A stepper whose models come from weights files, and are not changed by records.

    Args:
        library: The models.
        counters: As for `Stepper`.
        idle_after: As for `Stepper`.
    """

    def __init__(self, library: Library, counters: Counters, idle_after: int | None):
        columns = library.newest.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        super().__init__(columns, counters, idle_after)
        self.library = library

    def check_fits(self, key: str, state: KeyState) -> None:
        """Check that a state which the newest model made has the size of its states.

        Raises:
            StateError: It has another size, which no state that was computed here has.
        """
        model = self.library.newest.of(key)
        if model is None or not made_by(state, model):
            return
        found, size = (len(state.values), len(state.outputs)), (model.state_size, model.outputs)
        if found != size:
            raise StateError(
                f"the state of key {key!r} has {found[0]} numbers and {found[1]} outputs, its "
                f"model {model.digest} has {size[0]} and {size[1]}: export it again, or leave it "
                "out of what is imported"
            )

    def _goes_on_with(self, key: str, state: KeyState | None) -> bool:
        """Return True if no sequence is open, or if the newest model of the key began it."""
        if state is None or not state.steps:
            return True
        newest = self.library.newest.of(key)
        return newest is not None and made_by(state, newest)

    def _other_model(self, key: str, state: KeyState, remedy: str) -> StateError:
        """Return the error for a sequence that another model began."""
        newest = self.library.newest.of(key)
        here = "none here is the key's"
        if newest is not None:
            here = f"the model here is {newest.digest} with {newest.kernel}"
        return StateError(
            f"stored state was made by the model {state.digest} with the kernel {state.kernel}, "
            f"{here}: {remedy}"
        )


def made_by(state: KeyState, model: Model) -> bool:
    """Return True if this model, with this kernel, made a state."""
    return (state.digest, state.kernel) == (model.digest, model.kernel)
