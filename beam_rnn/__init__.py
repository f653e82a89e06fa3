"""Recurrent networks as native Apache Beam transforms."""

from beam_rnn.batches import Sequence
from beam_rnn.bptt import Bptt
from beam_rnn.columns import Columns
from beam_rnn.dropout import Dropout
from beam_rnn.gating import Gate
from beam_rnn.keyed import KeyedModels
from beam_rnn.learning import Learning, Untrained
from beam_rnn.model import Model
from beam_rnn.network import Network
from beam_rnn.optimizers import Adam, AdamW, RmsProp, Sgd
from beam_rnn.records import (
    EndedSequence,
    EpochLoss,
    Generated,
    InvalidRecord,
    LateRecord,
    Prediction,
    SequenceGap,
)
from beam_rnn.running import Running
from beam_rnn.schedules import Cosine, Plateau, StepDecay, Warmup
from beam_rnn.settings import Training
from beam_rnn.shards.emission import prediction_schema
from beam_rnn.transforms import (
    ExportStates,
    Generate,
    ImportStates,
    LastRecords,
    LossCurve,
    Predict,
    PredictAndLearn,
    ReadModel,
    Sequences,
    Train,
    WriteModel,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "Adam",
    "AdamW",
    "Bptt",
    "Columns",
    "Cosine",
    "Dropout",
    "EndedSequence",
    "EpochLoss",
    "ExportStates",
    "Gate",
    "Generate",
    "Generated",
    "ImportStates",
    "InvalidRecord",
    "KeyedModels",
    "LastRecords",
    "LateRecord",
    "Learning",
    "LossCurve",
    "Model",
    "Network",
    "Plateau",
    "Predict",
    "PredictAndLearn",
    "Prediction",
    "ReadModel",
    "RmsProp",
    "Running",
    "Sequence",
    "SequenceGap",
    "Sequences",
    "Sgd",
    "StepDecay",
    "Train",
    "Training",
    "Untrained",
    "Warmup",
    "WriteModel",
    "prediction_schema",
]
