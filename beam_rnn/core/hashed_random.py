"""Random numbers from hashed names: the same on every worker and in every batch."""

import hashlib
import json

import numpy as np

from beam_rnn.core.arrays import Array

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def origin_of(*names: str | int) -> int:
    """Return a seed of 64 bits for these names.

    >>> origin_of(0, "pump", 1) == origin_of(0, "pump", 2)
    False
    """
    return int.from_bytes(hashlib.sha256(json.dumps(names).encode()).digest()[:8], "little")


def hashed(origins: Array, first: int, n: int) -> Array:
    """Return random integers from these seeds (SplitMix64, Steele 2014).

    Args:
        origins: (...,) uint64, the seeds.
        first: The index of the first number in the sequence of each seed.
        n: The number of integers for each seed.

    Returns:
        (..., n) uint64.
    """
    places = np.arange(first + 1, first + 1 + n, dtype=np.uint64)
    z = origins[..., np.newaxis] + places * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(origins: Array, first: int, n: int) -> Array:
    """Return random numbers in the open interval (0, 1): (..., n) float64. See `hashed`.

    >>> uniforms(np.array([7], np.uint64), 0, 3).round(3)
    array([[0.39 , 0.017, 0.901]])
    """
    return ((hashed(origins, first, n) >> np.uint64(12)) + 0.5) * 2.0**-52
