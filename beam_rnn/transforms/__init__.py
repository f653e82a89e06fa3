"""The public transforms. Wiring only: what happens is in the modules that these import."""

import beam_rnn.streaming.row_coders  # noqa: F401  # registers the coders of the rows that come out
from beam_rnn.transforms.generate import Generate, GenerateOutputs
from beam_rnn.transforms.join_records import JoinRecords
from beam_rnn.transforms.models import LossCurve, ReadModel, WriteModel
from beam_rnn.transforms.predict import Predict, PredictOutputs
from beam_rnn.transforms.predict_and_learn import PredictAndLearn, PredictAndLearnOutputs
from beam_rnn.transforms.predict_sequences import PredictSequences, PredictSequencesOutputs
from beam_rnn.transforms.score_anomalies import ScoreAnomalies, ScoreAnomaliesOutputs
from beam_rnn.transforms.sequences import (
    LastRecords,
    LastRecordsOutputs,
    Sequences,
    SequencesOutputs,
)
from beam_rnn.transforms.smooth import Smooth
from beam_rnn.transforms.states import ExportStates, ImportStates
from beam_rnn.transforms.train import Train
from beam_rnn.transforms.transduce import Pairs, PairsOutputs, Transduce, TransduceOutputs

__all__ = [
    "ExportStates",
    "Generate",
    "GenerateOutputs",
    "ImportStates",
    "JoinRecords",
    "LastRecords",
    "LastRecordsOutputs",
    "LossCurve",
    "Pairs",
    "PairsOutputs",
    "Predict",
    "PredictAndLearn",
    "PredictAndLearnOutputs",
    "PredictOutputs",
    "PredictSequences",
    "PredictSequencesOutputs",
    "ReadModel",
    "ScoreAnomalies",
    "ScoreAnomaliesOutputs",
    "Sequences",
    "SequencesOutputs",
    "Smooth",
    "Train",
    "Transduce",
    "TransduceOutputs",
    "WriteModel",
]
