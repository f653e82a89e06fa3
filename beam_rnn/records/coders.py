"""What Beam needs of the rows that come out: a row coder each, and its own type of time.

Imported wherever such rows go into a pipeline, so that their coders are registered there.
"""

from apache_beam.coders import registry
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.records.results import (
    AnomalyScore,
    EndedSequence,
    EpochLoss,
    Generated,
    InvalidRecord,
    LateRecord,
    Prediction,
    SequenceGap,
    Transduced,
)

__all__ = ["ROWS", "Timestamp"]

ROWS = (
    Prediction,
    AnomalyScore,
    LateRecord,
    EndedSequence,
    SequenceGap,
    InvalidRecord,
    EpochLoss,
    Generated,
    Transduced,
)
"""The rows with a row coder."""

for _row in ROWS:
    registry.register_row(_row)
