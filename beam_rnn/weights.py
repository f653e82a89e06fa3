"""Weights files: models in Arrow files.

`load` and `save` take local files, `from_buffer` and `to_bytes` bytes, `read_model` and
`write_model` files on any filesystem that Beam knows; `newest` finds the newest file of a pattern.
"""

from beam_rnn.models.weights_format import from_buffer, load, save, to_bytes
from beam_rnn.training.model_files import newest, read_model, write_model

__all__ = ["from_buffer", "load", "newest", "read_model", "save", "to_bytes", "write_model"]
