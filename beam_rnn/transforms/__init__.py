"""The public transforms. Wiring only: what happens is in the modules that these import."""

from beam_rnn.transforms.generate import Generate, GenerateOutputs
from beam_rnn.transforms.learn import PredictAndLearn, PredictAndLearnOutputs
from beam_rnn.transforms.models import LossCurve, ReadModel, WriteModel
from beam_rnn.transforms.predict import Predict, PredictOutputs
from beam_rnn.transforms.sequences import (
    LastRecords,
    LastRecordsOutputs,
    Sequences,
    SequencesOutputs,
)
from beam_rnn.transforms.states import ExportStates, ImportStates
from beam_rnn.transforms.train import Train

__all__ = [
    "ExportStates",
    "Generate",
    "GenerateOutputs",
    "ImportStates",
    "LastRecords",
    "LastRecordsOutputs",
    "LossCurve",
    "Predict",
    "PredictAndLearn",
    "PredictAndLearnOutputs",
    "PredictOutputs",
    "ReadModel",
    "Sequences",
    "SequencesOutputs",
    "Train",
    "WriteModel",
]
