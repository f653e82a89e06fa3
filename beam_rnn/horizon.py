"""How far back a gradient reaches: the vanishing gradient, measured."""

from beam_rnn.training.gradient_horizon import (
    GradientHorizon,
    gradient_horizon,
    loss_by_steps,
    plot_horizon,
)

__all__ = ["GradientHorizon", "gradient_horizon", "loss_by_steps", "plot_horizon"]
