"""Registers a row coder for each kind of result: a pipeline imports it before it makes rows."""

from apache_beam.coders import registry

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
