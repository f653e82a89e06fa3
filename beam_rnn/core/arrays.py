"""The type of a numpy array of any dtype."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
