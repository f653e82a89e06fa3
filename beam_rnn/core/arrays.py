"""The type of a numpy array, whatever its numbers."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
