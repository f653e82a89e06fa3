"""Embedding: each symbol of x is replaced by a learned vector.

The functions are a pair, as in `beam_rnn.nn.backprop`: `embed` with `embed_backward`.
"""

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.nn.network import Network, Parameters


def embed(network: Network, parameters: Parameters, x: Array) -> Array:
    """Return the input of the first layer: x with vectors in place of the indices of symbols.

        >>> network = Network("rnn", 2, embedding=3)
        >>> E = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
        >>> embed(network, {"embedding.0.E": E}, np.array([[0.5, 1.0], [0.5, 0.0]]))
        array([[0.5, 1. , 2. , 3. ],
               [0.5, 0. , 0. , 0. ]])

    Args:
        network: The network.
        parameters: Its parameters.
        x: (..., inputs): numbers, followed by an index for each field of symbols.

    Returns:
        (..., numbers + vectors).
    """
    fields = len(network.embedding_sizes)
    if not fields:
        return x
    numbers, index = x[..., :-fields], x[..., -fields:].astype(np.intp)
    vectors = [parameters[name][index[..., i]] for i, name in enumerate(network.embedding_names)]
    return np.concatenate([numbers, *vectors], -1)


def embed_backward(
    network: Network, parameters: Parameters, x: Array, d_embedded: Array
) -> dict[str, Array]:
    """Return the gradient of `embed` with respect to the vectors, by name.

    Args:
        network: The network.
        parameters: Its parameters.
        x: (..., inputs).
        d_embedded: (..., numbers + vectors), the gradient with respect to the result of `embed`.
    """
    names, sizes = network.embedding_names, network.embedding_sizes
    gradients = {}
    at = x.shape[-1] - len(sizes)
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        index = x[..., i - len(sizes)].astype(np.intp).ravel()
        rows = d_embedded[..., at : at + size].reshape(-1, size)
        gradients[name] = _summed(index, rows, len(parameters[name]))
        at += size
    return gradients


def _summed(index: Array, rows: Array, n: int) -> Array:
    """Return the sum of the rows of each index (n, size), added in their order."""
    total = np.zeros((n, rows.shape[1]), rows.dtype)
    order = np.argsort(index, kind="stable")
    found, first = np.unique(index[order], return_index=True)
    total[found] = np.add.reduceat(rows[order], first, 0)
    return total
