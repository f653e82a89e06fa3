"""Recurrent networks as native Apache Beam transforms."""

import importlib
from typing import TYPE_CHECKING, Any

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
from beam_rnn.training.fit_table import fit
from beam_rnn.training.settings import Training

if TYPE_CHECKING:
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

_TRANSFORMS = {
    "ExportStates": "beam_rnn.transforms",
    "Generate": "beam_rnn.transforms",
    "ImportStates": "beam_rnn.transforms",
    "JoinRecords": "beam_rnn.transforms",
    "LastRecords": "beam_rnn.transforms",
    "LossCurve": "beam_rnn.transforms",
    "Predict": "beam_rnn.transforms",
    "PredictAndLearn": "beam_rnn.transforms",
    "PredictOutputs": "beam_rnn.transforms",
    "PredictSequences": "beam_rnn.transforms",
    "ReadModel": "beam_rnn.transforms",
    "ScoreAnomalies": "beam_rnn.transforms",
    "Sequences": "beam_rnn.transforms",
    "Smooth": "beam_rnn.transforms",
    "Train": "beam_rnn.transforms",
    "WriteModel": "beam_rnn.transforms",
    # These import apache_beam.ml, and with it PyTorch where that is installed.
    "ForecastDetector": "beam_rnn.transforms.anomaly_detector",
    "RnnModelHandler": "beam_rnn.transforms.run_inference",
}
"""The modules of names that are imported on first use: what needs no pipeline needs no Beam."""


def __getattr__(name: str) -> Any:
    if name not in _TRANSFORMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_TRANSFORMS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
