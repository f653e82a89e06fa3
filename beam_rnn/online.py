"""Settings of models that learn in the stream: for `PredictAndLearn` and `ScoreAnomalies`."""

from beam_rnn.models.error_tail import Surprise
from beam_rnn.training.online.gate import Gate
from beam_rnn.training.online.running_scaler import Running
from beam_rnn.training.online.settings import Learning, Untrained

__all__ = ["Gate", "Learning", "Running", "Surprise", "Untrained"]
