"""The errors that the library raises."""

from beam_rnn.core.errors import (
    BeamRnnError,
    CheckpointError,
    ConfigurationError,
    DivergenceError,
    InteropError,
    NotWeightsError,
    RecordError,
    StateError,
    TrainingError,
    WeightsError,
    WeightsVersionError,
    shown,
)

__all__ = [
    "BeamRnnError",
    "CheckpointError",
    "ConfigurationError",
    "DivergenceError",
    "InteropError",
    "NotWeightsError",
    "RecordError",
    "StateError",
    "TrainingError",
    "WeightsError",
    "WeightsVersionError",
    "shown",
]
