"""Models of PyTorch, Keras and ONNX, read and written; needs the extra `interop`.

Gate orders and bias vectors are mapped, never approximated. What cannot be represented is an
`InteropError` that names the layer and says why.
"""

from beam_rnn.interop.keras_read import from_keras
from beam_rnn.interop.keras_write import to_keras
from beam_rnn.interop.onnx_read import from_onnx
from beam_rnn.interop.onnx_write import to_onnx
from beam_rnn.interop.pytorch import from_torch, to_torch

__all__ = ["from_keras", "from_onnx", "from_torch", "to_keras", "to_onnx", "to_torch"]
