"""Gradients checked by projection: one random direction instead of every parameter."""

from collections.abc import Callable, Mapping

import numpy as np


def projection_error(
    value: Callable[[dict[str, np.ndarray]], float],
    gradient: Mapping[str, np.ndarray],
    at: Mapping[str, np.ndarray],
    seed: int = 0,
    epsilon: float = 1e-6,
) -> float:
    """The relative error of a gradient along a random direction, against central differences."""
    random = np.random.default_rng(seed)
    direction = {k: random.standard_normal(v.shape) for k, v in at.items()}

    def moved(step: float) -> float:
        return value({k: v + step * direction[k] for k, v in at.items()})

    numeric = (moved(epsilon) - moved(-epsilon)) / (2 * epsilon)
    exact = sum(float((gradient[k] * direction[k]).sum()) for k in at)
    return abs(numeric - exact) / max(abs(numeric), abs(exact), 1e-12)
