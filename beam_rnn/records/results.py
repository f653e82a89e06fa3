"""The rows that come out: the outcome of each record and of each sequence.

They are NamedTuples with a Beam row coder (`beam_rnn.streaming.row_coders`): any runner, SQL, YAML
and Java can read them. Their fields are only ever added to at the end. Nothing here imports
Beam until someone asks for an `event_time`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Optional

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import record_text, shown
from beam_rnn.data.event_times import rfc3339

if TYPE_CHECKING:
    from apache_beam.utils.timestamp import Timestamp

INVALID = "invalid"
"""The output of dead letters."""


class Prediction(NamedTuple):
    """The outputs of the network after a record.

    Attributes:
        key: The record's key, as text.
        time: The record's event time, in microseconds since 1970.
        step: The number of the step in its sequence: 1 for the first.
        outputs: A number for each name in `Model.output_names`: a target in its unit, for the
            record `horizon` records later, or a quantile or deviation of it.
        model: The digest of the model. With `PredictAndLearn`: the digest of the base model, "+"
            and the number of updates of its key.
        state: The hidden state after the step, raw little-endian float32; empty unless
            `Predict(with_state=True)`.
        sequence: The record's sequence number; 0 if there is none.
        kernel: What computed it: "numpy" or "fused".
    """

    key: str
    time: int
    step: int
    outputs: Sequence[float]
    model: str
    state: bytes
    sequence: int
    kernel: str

    @property
    def event_time(self) -> "Timestamp":
        """The record's event time."""
        return _timestamp(self.time)

    @classmethod
    def many(
        cls,
        *,
        key: Iterable[str],
        time: Iterable[int],
        step: Iterable[int],
        outputs: Iterable[Sequence[float]],
        model: Iterable[str],
        sequence: Iterable[int],
        kernel: Iterable[str],
        state: Iterable[bytes] = repeat(b""),
    ) -> Iterator["Prediction"]:
        """Return a prediction for each row of these columns.

        A column may be endless (`itertools.repeat`) if at least one is not.
        """
        # Not strict: some are endless.
        columns = zip(key, time, step, outputs, model, state, sequence, kernel)  # noqa: B905
        return map(cls._make, columns)


class LateRecord(NamedTuple):
    """A record that came after its key's hidden state had advanced past its place in the order.

    Attributes:
        key: The record's key, as text.
        time: The record's event time, in microseconds since 1970.
        behind: Microseconds behind the key's last step, or behind the time at which its window
            was closed.
        inputs: Its inputs, as recorded.
        sequence: Its sequence number; 0 if there is none.
    """

    key: str
    time: int
    behind: int
    inputs: Sequence[float]
    sequence: int


class EndedSequence(NamedTuple):
    """A sequence that ended: its last outputs, and the reason.

    Attributes:
        key: Its key, as text.
        steps: The number of its steps.
        first_time: The event time of its first record, in microseconds since 1970.
        last_time: The latest event time of its records.
        outputs: The outputs of its last step, in the targets' units.
        reason: "end" (an end mark), "start" (the start mark of the next one), "idle" (no record
            for longer than `idle_after`), "window" (the Beam window was closed), or "model" (the
            model changed).
        model: The digest of the model.
        state: The hidden state after its last step; empty unless `Predict(with_state=True)`.
        sequence: The sequence number of its last record; 0 if there is none.
        kernel: What computed it: "numpy" or "fused".
        history: The last inputs, kept to be replayed, raw little-endian float64; empty unless
            `Predict(with_state=True, replay=...)`.
        begun: If the key's sequence numbers restarted, the event time from which they count, in
            microseconds since 1970; else None. Always None with `Predict(idle_after=...)`.
    """

    key: str
    steps: int
    first_time: int
    last_time: int
    outputs: Sequence[float]
    reason: str
    model: str
    state: bytes
    sequence: int
    kernel: str
    history: bytes = b""
    begun: Optional[int] = None

    @classmethod
    def many(
        cls,
        *,
        key: Iterable[str],
        steps: Iterable[int],
        first_time: Iterable[int],
        last_time: Iterable[int],
        outputs: Iterable[Sequence[float]],
        reason: Iterable[str],
        model: Iterable[str],
        sequence: Iterable[int],
        kernel: Iterable[str],
        state: Iterable[bytes] = repeat(b""),
        history: Iterable[bytes] = repeat(b""),
        begun: Iterable[Optional[int]] = repeat(None),
    ) -> Iterator["EndedSequence"]:
        """Return an ended sequence for each row of these columns, as `Prediction.many`."""
        whole = key, steps, first_time, last_time, outputs, reason
        made_by = model, state, sequence, kernel, history, begun
        return map(cls._make, zip(*whole, *made_by))  # noqa: B905  # some are endless


class AnomalyScore(NamedTuple):
    """How surprising a record was, given the earlier records of its key.

    Attributes:
        key: The record's key, as text.
        time: The record's event time, in microseconds since 1970.
        step: The number of the step in its sequence: 1 for the first.
        values: Its targets, as recorded.
        predictions: The predictions of them, made one record before; empty for the first record of
            a sequence.
        score: In [0, 1]: 1 - probability; 0 if there was no prediction.
        probability: The probability of an error of at least this size: see
            `beam_rnn.models.error_tail`.
        model: The model that steps the record, as in `Prediction`.
        sequence: The record's sequence number; 0 if there is none.
        kernel: What computed it: "numpy" or "fused".
    """

    key: str
    time: int
    step: int
    values: Sequence[float]
    predictions: Sequence[float]
    score: float
    probability: float
    model: str
    sequence: int
    kernel: str

    @property
    def event_time(self) -> "Timestamp":
        """The record's event time."""
        return _timestamp(self.time)


class SequenceGap(NamedTuple):
    """Sequence numbers that did not arrive in time.

    Attributes:
        key: The key.
        time: The event time of the record that was stepped without them, in microseconds since
            1970.
        first: The first number that is missing.
        last: The last one.
    """

    key: str
    time: int
    first: int
    last: int


class InvalidRecord(NamedTuple):
    """A dead letter: a record that cannot be used.

    Attributes:
        key: Its key, as text; empty if it has none that can be used.
        reason: What is wrong with it.
        value: The offending value, as its Python repr.
        record: The whole record as a JSON object; as its Python repr, shortened, if it cannot be
            one or is long. For a record that could be read but not stepped, its time and inputs.
    """

    key: str
    reason: str
    value: str
    record: str


class EpochLoss(NamedTuple):
    """The losses of an epoch of training.

    Attributes:
        model: The digest of the trained model.
        epoch: The number of the epoch: 1 for the first.
        loss: The mean loss over the epoch, on scaled targets.
        validation_loss: The loss on the validation set, if it was computed after this epoch.
    """

    model: str
    epoch: int
    loss: float
    validation_loss: Optional[float]


class Generated(NamedTuple):
    """A sequence that a model generated after a prompt.

    Attributes:
        key: The key of the prompt, as text.
        sample: The number of the sequence among those of the prompt: 1 for the first.
        values: For each step a number for each target, in the target's unit; empty if the target
            is a class.
        symbols: The class of each step, as text; empty if the targets are numbers.
        log_probability: The natural logarithm of the sequence's probability after its prompt, by
            the network's outputs, whatever the temperature; for numbers, of their density. None
            for quantiles and plain forecasts, which have none.
        reason: Why it ended: "length", or "stop", which is not among its symbols.
        time: The event time of the last record of the prompt, in microseconds since 1970.
        model: The digest of the model.
        kernel: What computed it: "numpy" or "fused".
    """

    key: str
    sample: int
    values: Sequence[Sequence[float]]
    symbols: Sequence[str]
    log_probability: Optional[float]
    reason: str
    time: int
    model: str
    kernel: str

    @property
    def event_time(self) -> "Timestamp":
        """The event time of the last record of the prompt."""
        return _timestamp(self.time)


class Transduced(NamedTuple):
    """The output sequence of an encoder-decoder for a source sequence.

    Attributes:
        key: The record's key, as text.
        symbols: Its symbols.
        log_probability: The log probability of all of them, and of the end if it was reached.
        ended: Whether the end was reached; else the limit cut the sequence off.
        model: The digest of the model that made it.
        kernel: What computed it: "numpy" or "fused".
    """

    key: str
    symbols: Sequence[str]
    log_probability: float
    ended: bool
    model: str
    kernel: str

    @property
    def text(self) -> str:
        """The symbols as text, where they are characters."""
        return "".join(self.symbols)


def _timestamp(micros: int) -> "Timestamp":
    """Return Beam's timestamp for a time."""
    from apache_beam.utils.timestamp import Timestamp  # noqa: PLC0415  # only here is Beam needed

    return Timestamp(micros=micros)


def poisoned(key: str, time: int, inputs: Array, reason: str) -> InvalidRecord:
    """Return the dead letter of a record that could be read but not stepped.

        >>> import numpy as np
        >>> poisoned("pump", 1_714_557_600_000_000, np.array([1e300]), "too large").record
        '{"time": "2024-05-01T10:00:00Z", "inputs": [1e+300]}'

    Args:
        key: Its key.
        time: Its event time, in microseconds since 1970.
        inputs: Its inputs, as recorded.
        reason: What is wrong with it.
    """
    numbers = inputs.tolist()
    known = {"time": rfc3339(time), "inputs": numbers}
    return InvalidRecord(key, reason, shown(numbers), record_text(known))
