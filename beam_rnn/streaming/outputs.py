"""The outputs of the stateful DoFns: which result goes where, and at which timestamp."""

from typing import Any

from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.engine.order import NOW
from beam_rnn.engine.stepper import Row
from beam_rnn.records.results import (
    INVALID,
    EndedSequence,
    InvalidRecord,
    LateRecord,
    SequenceGap,
)

LATE, ENDED, GAPS, MODELS = "late", "ended", "gaps", "models"
"""The outputs besides predictions and `INVALID`."""

_TAGS: dict[type, str] = {
    InvalidRecord: INVALID,
    EndedSequence: ENDED,
    LateRecord: LATE,
    SequenceGap: GAPS,
    tuple: MODELS,  # a key and its model
}
_AT_DUE = {LATE, GAPS}


class Stamps(dict[int, Timestamp]):
    """Beam's timestamps, each made once."""

    def __missing__(self, micros: int) -> Timestamp:
        stamp = self[micros] = Timestamp(micros=micros)
        return stamp


def tagged(row: Row, stamps: Stamps, window: Any, *, at_event_time: bool) -> Any:
    """Return a result on its output, at its timestamp, in its window.

    A `TimestampedValue` would not stay in the window: Beam puts it into all windows of its time.

    Args:
        row: The result.
        stamps: The timestamps that were made.
        window: The window that is stepped.
        at_event_time: At the event time of its record; else when that was due. Late records and
            gaps always come out when they were due.
    """
    result, due, time = row
    tag = _TAGS.get(type(result))
    micros = time if at_event_time and tag not in _AT_DUE else due
    if micros != NOW:
        result = WindowedValue(result, stamps[micros], (window,))
    return result if tag is None else TaggedOutput(tag, result)
