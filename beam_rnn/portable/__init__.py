"""The transforms for Beam YAML and for other languages: plain parameters, rows in and out.

Each builds `Columns`, `Network` and `Training` from mappings (`beam_rnn.portable.arguments`), uses
the transform of the same name, and gives rows with a schema that every language of Beam can read.
Beam YAML finds them by `PROVIDERS`, Java by their names, as `beam_rnn.portable.RnnPredict`.
"""

from pathlib import Path

from beam_rnn.portable.generate import RnnGenerate
from beam_rnn.portable.predict import RnnPredict
from beam_rnn.portable.predict_sequences import RnnPredictSequences
from beam_rnn.portable.score_anomalies import RnnAnomalies
from beam_rnn.portable.sequences import RnnSequences
from beam_rnn.portable.train import RnnTrain

PROVIDERS = str(Path(__file__).parent.parent / "providers.yaml")
"""The file for `include:` under `providers:` of a YAML pipeline."""

__all__ = [
    "PROVIDERS",
    "RnnAnomalies",
    "RnnGenerate",
    "RnnPredict",
    "RnnPredictSequences",
    "RnnSequences",
    "RnnTrain",
]
