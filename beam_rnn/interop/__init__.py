"""Import and export of PyTorch, Keras and ONNX models; needs the extra `interop`.

Gate orders and bias vectors are converted exactly. Anything that cannot be represented raises an
`InteropError` that names the layer and the reason.
"""

from beam_rnn.interop.keras_read import from_keras
from beam_rnn.interop.keras_write import to_keras
from beam_rnn.interop.onnx_read import from_onnx
from beam_rnn.interop.onnx_write import to_onnx
from beam_rnn.interop.pytorch import from_torch, to_torch

__all__ = ["from_keras", "from_onnx", "from_torch", "to_keras", "to_onnx", "to_torch"]
