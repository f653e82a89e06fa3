"""The rows that come out: what is said of records, and what became of each.

They are NamedTuples with a Beam row coder: any runner, any language, SQL and YAML can read them.
Their fields are only ever added to at the end.
"""

from collections.abc import Sequence
from typing import NamedTuple, Optional

from apache_beam.coders import registry
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import record_text, shown

INVALID = "invalid"
"""The output of dead letters."""


class Prediction(NamedTuple):
    """What the network says after a record.

    Attributes:
        key: The record's key, as text.
        time: The record's event time, in microseconds since 1970.
        step: Which step of its sequence it was: 1 for the first.
        outputs: One number for each target, in the target's unit, for the record `horizon`
            records later; or what `Model.output_names` lists.
        model: The digest of the model that made it; of what `PredictAndLearn` learned that of the
            base model, "+", and how many updates its key has had.
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
    def event_time(self) -> Timestamp:
        """The record's event time."""
        return Timestamp(micros=self.time)


class LateRecord(NamedTuple):
    """A record that came after its key's hidden state had passed its place.

    Attributes:
        key: The record's key, as text.
        time: The record's event time, in microseconds since 1970.
        behind: How far behind the key's last step that is, in microseconds; behind the time at
            which its window was closed, if it was.
        inputs: Its inputs, as recorded.
        sequence: Its sequence number; 0 if there is none.
    """

    key: str
    time: int
    behind: int
    inputs: Sequence[float]
    sequence: int


class EndedSequence(NamedTuple):
    """A sequence that ended: what came out of it, and why it ended.

    Attributes:
        key: Its key, as text.
        steps: How many steps it had.
        first_time: The event time of its first record, in microseconds since 1970.
        last_time: The latest event time of its records.
        outputs: The outputs of its last step, in the targets' units.
        reason: "end" (an end mark), "start" (the start mark of the next one), "idle" (no
            record for so long), "window" (the Beam window was closed), or "model" (the model
            changed).
        model: The digest of the model.
        state: The hidden state after its last step; empty unless `Predict(with_state=True)`.
        sequence: The sequence number of its last record; 0 if there is none.
        kernel: What computed it: "numpy" or "fused".
        history: The last inputs that were kept to be replayed, raw little-endian float64; empty
            unless `Predict(with_state=True, replay=...)`.
        begun: Of a sequence that was open: the event time from which its key's sequence numbers
            count, in microseconds since 1970, if they began anew; else None, and with
            `Predict(idle_after=...)`, which forgets it.
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


class AnomalyScore(NamedTuple):
    """How surprising a record was, from what its key had before it.

    Attributes:
        key: The record's key, as text.
        time: The record's event time, in microseconds since 1970.
        step: Which step of its sequence it was: 1 for the first.
        values: Its targets, as recorded.
        predictions: What had been predicted of them one record before; empty for the first record
            of a sequence.
        score: In [0, 1]: 1 - probability; 0 where there was no prediction.
        probability: How probable an error of at least this size was: see
            `beam_rnn.models.error_tail`.
        model: The model that takes the record: as in `Prediction`.
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
    def event_time(self) -> Timestamp:
        """The record's event time."""
        return Timestamp(micros=self.time)


class SequenceGap(NamedTuple):
    """Sequence numbers that were waited for and did not come in time.

    Attributes:
        key: The key.
        time: The event time of the record that was stepped without them, in microseconds.
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
        value: The offending value, as Python writes it.
        record: The whole record as a JSON object; as Python writes it, shortened, if it cannot be
            one or is long. Of one that could be read, but not be stepped, its time and its inputs.
    """

    key: str
    reason: str
    value: str
    record: str


class EpochLoss(NamedTuple):
    """How far a training was after an epoch.

    Attributes:
        model: The digest of the model that came of it.
        epoch: Which epoch: 1 for the first.
        loss: The mean loss over the epoch, of scaled targets.
        validation_loss: That of what is held back, where it was asked after this epoch.
    """

    model: str
    epoch: int
    loss: float
    validation_loss: Optional[float]


class Generated(NamedTuple):
    """A sequence that a model wrote after a prompt.

    Attributes:
        key: The key of the prompt, as text.
        sample: Which of its sequences: 1 for the first.
        values: Of each step one number for each target, in the target's unit; empty if the target
            is a class.
        symbols: The class of each step, as text; empty if the targets are numbers.
        log_probability: The natural logarithm of how likely the sequence is after its prompt,
            as the network says it, whatever the temperature; of numbers, of their density. None
            where it does not say: quantiles and plain forecasts.
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
    def event_time(self) -> Timestamp:
        """The event time of the last record of the prompt."""
        return Timestamp(micros=self.time)


for _row in (
    Prediction,
    AnomalyScore,
    LateRecord,
    EndedSequence,
    SequenceGap,
    InvalidRecord,
    EpochLoss,
    Generated,
):
    registry.register_row(_row)


def poisoned(key: str, time: int, inputs: Array, reason: str) -> InvalidRecord:
    """The dead letter for a record that could be read, but not be stepped.

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
    known = {"time": Timestamp(micros=time).to_rfc3339(), "inputs": numbers}
    return InvalidRecord(key, reason, shown(numbers), record_text(known))
