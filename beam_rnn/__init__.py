"""Recurrent networks as native Apache Beam transforms."""

import importlib
from typing import TYPE_CHECKING, Any

import beam_rnn.streaming.quiet_beam  # noqa: F401  # before anything else imports Beam
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.data.vocabulary import Vocabulary
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.model import Model
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.dropout import Dropout
from beam_rnn.nn.network import Network
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
)
from beam_rnn.training.fit import fit
from beam_rnn.training.settings import Training
from beam_rnn.transforms import (
    ExportStates,
    Generate,
    ImportStates,
    JoinRecords,
    LastRecords,
    LossCurve,
    Predict,
    PredictAndLearn,
    PredictOutputs,
    PredictSequences,
    ReadModel,
    ScoreAnomalies,
    Sequences,
    Smooth,
    Train,
    WriteModel,
)

if TYPE_CHECKING:
    from beam_rnn.transforms.anomaly_detector import ForecastDetector
    from beam_rnn.transforms.run_inference import RnnModelHandler

__version__ = "0.1.0.dev0"

__all__ = [
    "AnomalyScore",
    "Bptt",
    "Columns",
    "Dropout",
    "EndedSequence",
    "EpochLoss",
    "ExportStates",
    "ForecastDetector",
    "Generate",
    "Generated",
    "ImportStates",
    "InvalidRecord",
    "JoinRecords",
    "KeyedModels",
    "LastRecords",
    "LateRecord",
    "LossCurve",
    "Model",
    "Network",
    "Predict",
    "PredictAndLearn",
    "PredictOutputs",
    "PredictSequences",
    "Prediction",
    "ReadModel",
    "RnnModelHandler",
    "ScoreAnomalies",
    "Sequence",
    "SequenceGap",
    "Sequences",
    "Smooth",
    "Train",
    "Training",
    "Vocabulary",
    "WriteModel",
    "fit",
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
