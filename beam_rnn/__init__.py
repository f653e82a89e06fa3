"""Recurrent networks as native Apache Beam transforms."""

import importlib
from typing import TYPE_CHECKING, Any

import beam_rnn.streaming.quiet_beam  # noqa: F401  # before anything else imports Beam
from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import Pair, PairColumns
from beam_rnn.data.sequences import Sequence
from beam_rnn.data.vocabulary import Vocabulary
from beam_rnn.models.error_tail import Surprise
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.model import Model
from beam_rnn.models.transducer import Transducer
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.dropout import Dropout
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Adam, AdamW, RmsProp, Sgd
from beam_rnn.nn.schedules import Cosine, Plateau, StepDecay, Warmup
from beam_rnn.records.result_columns import prediction_schema
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
from beam_rnn.training.online.gate import Gate
from beam_rnn.training.online.running_scaler import Running
from beam_rnn.training.online.settings import Learning, Untrained
from beam_rnn.training.settings import Training
from beam_rnn.transforms import (
    ExportStates,
    Generate,
    ImportStates,
    JoinRecords,
    LastRecords,
    LossCurve,
    Pairs,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ReadModel,
    ScoreAnomalies,
    Sequences,
    Smooth,
    Train,
    Transduce,
    WriteModel,
)

if TYPE_CHECKING:
    from beam_rnn.transforms.anomaly_detector import ForecastDetector
    from beam_rnn.transforms.run_inference import RnnModelHandler

__version__ = "0.1.0.dev0"

__all__ = [
    "Adam",
    "AdamW",
    "AnomalyScore",
    "Bptt",
    "Columns",
    "Cosine",
    "Dropout",
    "EncoderDecoder",
    "EndedSequence",
    "EpochLoss",
    "ExportStates",
    "ForecastDetector",
    "Gate",
    "Generate",
    "Generated",
    "ImportStates",
    "InvalidRecord",
    "JoinRecords",
    "KeyedModels",
    "LastRecords",
    "LateRecord",
    "Learning",
    "LossCurve",
    "Model",
    "Network",
    "Pair",
    "PairColumns",
    "Pairs",
    "Plateau",
    "Predict",
    "PredictAndLearn",
    "PredictSequences",
    "Prediction",
    "ReadModel",
    "RmsProp",
    "RnnModelHandler",
    "Running",
    "ScoreAnomalies",
    "Sequence",
    "SequenceGap",
    "Sequences",
    "Sgd",
    "Smooth",
    "StepDecay",
    "Surprise",
    "Train",
    "Training",
    "Transduce",
    "Transduced",
    "Transducer",
    "Untrained",
    "Vocabulary",
    "Warmup",
    "WriteModel",
    "prediction_schema",
]

_WHEN_USED = {
    "ForecastDetector": "beam_rnn.transforms.anomaly_detector",
    "RnnModelHandler": "beam_rnn.transforms.run_inference",
}
"""Names whose modules import `apache_beam.ml`, which imports PyTorch where it is installed."""


def __getattr__(name: str) -> Any:
    if name not in _WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_WHEN_USED[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
