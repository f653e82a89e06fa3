"""Weights files: write a model to a file, or to bytes, and read it again."""

from beam_rnn.models.weights_format import from_buffer, load, save, to_bytes

__all__ = ["from_buffer", "load", "save", "to_bytes"]
