"""The parameters of a network as one vector, so that an update is one operation on all of them.

>>> layout = Layout({"W": np.zeros((2, 2)), "b": np.zeros(1)})
>>> vector = layout.joined({"W": np.eye(2), "b": np.array([3.0])})
>>> vector
array([1., 0., 0., 1., 3.])
>>> layout.parts(vector)["b"]
array([3.])
"""

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.nn.initialization import is_initial_state
from beam_rnn.nn.network import Parameters


class Layout:
    """The place of each parameter in the vector.

    Args:
        like: Parameters, in their order.
    """

    def __init__(self, like: Parameters):
        ends = np.cumsum([value.size for value in like.values()]).tolist()
        starts = [0, *ends[:-1]]
        self._places = [
            (name, slice(start, end), value.shape)
            for start, end, (name, value) in zip(starts, ends, like.items(), strict=True)
        ]
        self._states = [place for name, place, _ in self._places if is_initial_state(name)]

    def joined(self, parameters: Parameters) -> Array:
        """Return the vector of parameters, or of their gradients."""
        return np.concatenate([parameters[name].ravel() for name, *_ in self._places])

    def parts(self, vector: Array) -> dict[str, Array]:
        """Return the parameters in a vector, as views of it."""
        return {name: vector[place].reshape(shape) for name, place, shape in self._places}

    def of_carried_state(self, gradient: Array) -> Array:
        """Return the gradient of a window that starts from a carried state, not a parameter."""
        if self._states:
            gradient = gradient.copy()
            for place in self._states:
                gradient[place] = 0
        return gradient

    def clipped(self, gradient: Array, limit: float | None, max_norm: float | None) -> Array:
        """Clip a gradient as `beam_rnn.nn.optimizers.clipped`, with the same bits."""
        if limit is not None:
            gradient = gradient.clip(-limit, limit)
        if max_norm is None:
            return gradient
        squares = np.square(gradient, dtype=np.float64)
        norm = np.sqrt(sum(float(squares[place].sum()) for _, place, _ in self._places))
        return gradient * min(1.0, max_norm / (float(norm) + 1e-6))
