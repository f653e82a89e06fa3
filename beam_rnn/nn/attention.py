"""Additive attention (Bahdanau 2014) over whole sequences: `attend` with `attend_backward`.

The query is the output of the decoder at a step, the keys are the outputs of the encoder. Attention
follows the layers of the decoder (as in Luong 2015), so that they run over all steps at once.

Sums over the source are made step by step, so that the result for a pair does not depend on the
padding of its batch.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.nn.cells import linear
from beam_rnn.nn.network import Parameters
from beam_rnn.nn.products import matmul


class AttentionTrace(NamedTuple):
    """The arrays that `attend` keeps for `attend_backward`; S is the longest source."""

    queries: Array  # (time, batch, m)
    keys: Array  # (S, batch, read)
    fits: Array  # (S, time, batch, m): tanh(W_q q + W_k k)
    shares: Array  # (S, time, batch)
    seen: Array  # (time, batch, m + read): query and context side by side
    features: Array  # (time, batch, m)


Linear = Callable[[Array, Array, Array], Array]
"""Computes x W + b for rows x, each with the same bits in every batch."""


def attend(
    p: Parameters, queries: Array, keys: Array, lengths: Array, linear: Linear = linear
) -> tuple[Array, AttentionTrace]:
    """Return the features of each step of the decoder, with its context in the source.

    e_s = v^T tanh(W_q q + W_k k_s), a = softmax(e), c = sum_s a_s k_s, tanh(W_c [q; c] + b_c).

    Args:
        p: W_q (m, m), W_k (read, m), v (m, 1), W_c (m + read, m) and b_c (m,).
        queries: (time, batch, m), the decoder's outputs.
        keys: (S, batch, read), the encoder's outputs.
        lengths: (batch,), the length of each source, at least 1.
        linear: Computes x W + b.

    Returns:
        Features (time, batch, m), and the trace.
    """
    none = np.zeros(queries.shape[2], queries.dtype)
    of_query = _product(linear, queries, p["W_q"], none)
    of_key = _product(linear, keys, p["W_k"], none)
    fits = np.tanh(of_query + of_key[:, np.newaxis])
    scores = _product(linear, fits, p["v"], none[:1])[..., 0]
    there = (np.arange(len(keys))[:, np.newaxis] < lengths)[:, np.newaxis]
    scores = np.where(there, scores, -np.inf)
    weights = np.exp(scores - scores.max(0))
    shares = weights / _sum(weights)
    context = _sum(share[..., np.newaxis] * k for share, k in zip(shares, keys, strict=True))
    seen = np.concatenate([queries, context], 2)
    features = np.tanh(_product(linear, seen, p["W_c"], p["b_c"]))
    return features, AttentionTrace(queries, keys, fits, shares, seen, features)


def attend_backward(
    p: Parameters, trace: AttentionTrace, d_features: Array
) -> tuple[dict[str, Array], Array, Array]:
    """Return the gradients of `attend` with respect to parameters, queries and keys."""
    queries, keys, fits, shares, seen, features = trace
    m = queries.shape[2]
    d_a = d_features * (1 - features * features)
    d_seen = matmul(d_a, p["W_c"].T)
    d_queries, d_context = d_seen[..., :m], d_seen[..., m:]
    d_shares = np.stack([(d_context * k).sum(2) for k in keys])
    d_scores = (shares * (d_shares - (shares * d_shares).sum(0)))[..., np.newaxis]
    d_fits = d_scores * p["v"][:, 0] * (1 - fits * fits)
    d_of_query, d_of_key = d_fits.sum(0), d_fits.sum(1)
    gradients = {
        "W_q": matmul(_rows(queries).T, _rows(d_of_query)),
        "W_k": matmul(_rows(keys).T, _rows(d_of_key)),
        "v": matmul(_rows(fits).T, _rows(d_scores)),
        "W_c": matmul(_rows(seen).T, _rows(d_a)),
        "b_c": _rows(d_a).sum(0),
    }
    d_keys = np.stack([(share[..., np.newaxis] * d_context).sum(0) for share in shares])
    return (
        gradients,
        d_queries + matmul(d_of_query, p["W_q"].T),
        d_keys + matmul(d_of_key, p["W_k"].T),
    )


def _rows(x: Array) -> Array:
    """Return (..., features) as rows."""
    return x.reshape(-1, x.shape[-1])


def _product(linear: Linear, x: Array, weights: Array, bias: Array) -> Array:
    return linear(_rows(x), weights, bias).reshape(*x.shape[:-1], weights.shape[1])


def _sum(terms: Iterable[Array]) -> Array:
    """Return the sum of terms, added in their order."""
    total = None
    for term in terms:
        total = term.copy() if total is None else np.add(total, term, out=total)
    assert total is not None, "a source has a symbol"
    return total
