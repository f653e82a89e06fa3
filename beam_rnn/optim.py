"""Optimizers and learning rate schedules, for `Training(optimizer=...)`."""

from beam_rnn.nn.optimizers import Adam, AdamW, Optimizer, RmsProp, Sgd
from beam_rnn.nn.schedules import Cosine, Plateau, StepDecay, Warmup

__all__ = [
    "Adam",
    "AdamW",
    "Cosine",
    "Optimizer",
    "Plateau",
    "RmsProp",
    "Sgd",
    "StepDecay",
    "Warmup",
]
