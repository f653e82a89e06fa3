"""What the outputs of a network mean: a number, classes, quantiles or a distribution.

Each output is one record, an `Output`. It has the function y = g(z) from the raw numbers of the
head, z = W_y h + b_y, and its gradient; the numbers that describe one target, and how they are
scaled; the losses that fit; and the point forecast, the quantiles and the samples that are made
from y. `OUTPUTS` lists them by name. To add one, add its record there, and its loss to
`beam_rnn.nn.losses`; nothing else compares the names.

    >>> OUTPUTS["softmax"].forward(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    >>> OUTPUTS["gaussian"].quantile(np.array([[10.0, 2.0]]), 0.5)
    array([10.])
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.text import names
from beam_rnn.data.output_parts import VALUE, Part
from beam_rnn.nn.cells import relu, sigmoid
from beam_rnn.nn.sampling import (
    NORMAL,
    Sampling,
    draw_between,
    draw_class,
    draw_each,
    draw_gaussian,
)

LEAST_DEVIATION = 1e-3
"""The smallest value of a positive part, so that a constant target has a finite likelihood."""
LEVELS = tuple(round(i / 20, 2) for i in range(1, 20))
"""The levels at which a distribution is evaluated in the report: 5 %, 10 %, ..., 95 %."""


class Activation(NamedTuple):
    """A function of the raw outputs, applied to the targets of one horizon.

    Attributes:
        forward: z -> y, both (..., outputs).
        backward: (y, d_y) -> d_z.
        onnx: The operator of ONNX that computes it; "" if there is none.
        keras: The activation of Keras that computes it; "" if there is none.
        joint: Whether each number of y depends on all of z.
    """

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]
    onnx: str = ""
    keras: str = ""
    joint: bool = False


def _identity(z: Array) -> Array:
    return z


def softmax(z: Array) -> Array:
    """Return exp(z_i) / sum_j exp(z_j) over the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True), order="C")  # in another order sums have other bits
    return e / e.sum(-1, keepdims=True)


def softmax_backward(y: Array, d_y: Array) -> Array:
    """Return the gradient of `softmax`."""
    return y * (d_y - (y * d_y).sum(-1, keepdims=True))


LINEAR = Activation(_identity, lambda _, d_y: d_y, "Identity", "linear")
SIGMOID = Activation(sigmoid, lambda y, d_y: d_y * y * (1 - y), "Sigmoid", "sigmoid")
TANH = Activation(np.tanh, lambda y, d_y: d_y * (1 - y * y), "Tanh", "tanh")
RELU = Activation(relu, lambda y, d_y: d_y * (y > 0), "Relu", "relu")
SOFTMAX = Activation(softmax, softmax_backward, "Softmax", "softmax", joint=True)


@dataclass(frozen=True)
class Output:
    """An output of a network. This class is one number per target; subclasses say more.

    Args:
        title: The name in reports.
        losses: The names of the losses that fit; the first is the default.
        activation: The function from z to y, before positive parts are made positive.
        scaled: Whether y has the unit of the targets, so that targets can be scaled.
        parts: The numbers of y that describe one target, side by side.
        classes: Whether the targets are classes, of which exactly one is true.
        has_probability: Whether `draw` gives the probability of what it draws.
    """

    title: str
    losses: tuple[str, ...]
    activation: Activation = LINEAR
    scaled: bool = False
    parts: tuple[Part, ...] = VALUE
    classes: bool = False
    has_probability: bool = False
    needs_levels = False
    """Whether the parts are the quantiles of `Network.quantiles`."""

    @property
    def is_linear(self) -> bool:
        """Return True if y = z."""
        return self.activation is LINEAR and not self._positive

    @property
    def is_random(self) -> bool:
        """Return True if `draw` gives different values for different random numbers."""
        return self.has_probability or len(self.parts) > 1

    @property
    def keras(self) -> str:
        """The activation of Keras that computes y; "" if there is none."""
        return "" if self._positive else self.activation.keras

    @property
    def _positive(self) -> list[int]:
        return [i for i, part in enumerate(self.parts) if part.positive]

    def forward(self, z: Array) -> Array:
        """Return y = g(z) for z (..., outputs) of one horizon.

        A positive part is log(1 + exp(z)) + LEAST_DEVIATION.
        """
        y = self.activation.forward(z)
        positive, each = self._positive, len(self.parts)
        y = y.copy() if positive else y
        for i in positive:
            s = y[..., i::each]
            y[..., i::each] = np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s))) + LEAST_DEVIATION
        return y

    def backward(self, y: Array, d_y: Array) -> Array:
        """Return the gradient with respect to z, from y and the gradient with respect to y.

        The derivative of log(1 + exp(s)) is 1 - exp(-log(1 + exp(s))).
        """
        positive, each = self._positive, len(self.parts)
        d_y = d_y.copy() if positive else d_y
        for i in positive:
            d_y[..., i::each] *= -np.expm1(LEAST_DEVIATION - y[..., i::each])
        return self.activation.backward(y, d_y)

    def with_levels(self, levels: Sequence[float]) -> "Output":  # noqa: ARG002
        """Return the output for the levels of `Network.quantiles`, if it has such levels."""
        return self

    def point(self, y: Array) -> Array:
        """Return the point forecast (..., targets) from y (..., targets, parts)."""
        return y[..., 0]

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels at which `quantile` is evaluated in the report; () if it has no quantiles."""
        return ()

    @property
    def band(self) -> tuple[float, ...]:
        """The levels of the lower and the upper end of the band in charts; () for no band."""
        return ()

    def quantile(self, y: Array, level: float) -> Array:
        """Return the quantile (..., targets) of that level from y (..., targets, parts).

        Raises:
            ConfigurationError: The output has no quantiles.
        """
        raise ConfigurationError(
            f"an output that is {self.title} has no quantile of level {level}: take "
            "output='quantiles' or a distribution such as output='gaussian'; got outputs of the "
            f"shape {y.shape}"
        )

    def draw(
        self,
        y: Array,
        u: Array,  # noqa: ARG002
        how: Sampling,  # noqa: ARG002
    ) -> tuple[Array, Array | None]:
        """Draw a sample of each row: see `beam_rnn.nn.sampling`.

        Args:
            y: (rows, targets, parts), in the units of the targets.
            u: Uniform random numbers, (rows, targets); of classes (rows, 1).
            how: The temperature, and of classes the most likely ones alone.

        Returns:
            The values (rows, targets), of classes the class (rows,); and the log of their
            probability, or of its density, (rows,); None if it is not known.
        """
        return self.point(y), None


class Labels(Output):
    """The probability of 1 for each target independently."""

    def draw(self, y: Array, u: Array, how: Sampling) -> tuple[Array, Array | None]:
        """Draw 0 or 1 for each target."""
        return draw_each(y[..., 0], u, how.temperature)


class Classes(Output):
    """The probability of each class."""

    def draw(self, y: Array, u: Array, how: Sampling) -> tuple[Array, Array | None]:
        """Draw a class."""
        return draw_class(y[..., 0], u[:, 0], how.temperature, how.top_k)


class Quantiles(Output):
    """Quantiles of each target."""

    needs_levels = True

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of its parts."""
        return tuple(part.level for part in self.parts if part.level is not None)

    def with_levels(self, levels: Sequence[float]) -> Output:
        """Return the output for these levels."""
        return _with_levels(self, tuple(levels))

    def point(self, y: Array) -> Array:
        """Return the quantile in the middle."""
        return y[..., len(self.parts) // 2]

    @property
    def band(self) -> tuple[float, ...]:
        """The lowest and the highest level."""
        return (self.levels[0], self.levels[-1]) if len(self.levels) > 1 else ()

    def quantile(self, y: Array, level: float) -> Array:
        """Return the quantile of one of the levels."""
        return y[..., self.levels.index(level)]

    def draw(self, y: Array, u: Array, how: Sampling) -> tuple[Array, Array | None]:
        """Draw from the distribution between the quantiles."""
        return draw_between(y, self.levels, u, how.temperature), None


@functools.lru_cache
def _with_levels(output: Quantiles, levels: tuple[float, ...]) -> Output:
    title = f"quantiles {names(f'{level:g}' for level in levels)}"
    parts = tuple(Part(f"q{level:g}", level=level) for level in levels)
    return replace(output, title=title, parts=parts)


class Gaussian(Output):
    """The mean and the standard deviation of a normal distribution for each target."""

    levels = LEVELS
    band = (0.1, 0.9)

    def quantile(self, y: Array, level: float) -> Array:
        """Return the mean plus as many standard deviations as the level is away from it."""
        return y[..., 0] + y[..., 1] * NORMAL.inv_cdf(level)

    def draw(self, y: Array, u: Array, how: Sampling) -> tuple[Array, Array | None]:
        """Draw from the normal distribution of each target."""
        return draw_gaussian(y[..., 0], y[..., 1], u, how.temperature)


_ERRORS = ("mse", "mae", "huber")

OUTPUTS: dict[str, Output] = {
    "identity": Output("a number", ("mae", "mse", "huber"), scaled=True),
    "sigmoid": Labels(
        "a probability, or a number from 0 to 1",
        ("binary_cross_entropy", *_ERRORS),
        SIGMOID,
        has_probability=True,
    ),
    "tanh": Output("a number (tanh)", _ERRORS, TANH),
    "relu": Output("a number (relu)", _ERRORS, RELU),
    "softmax": Classes(
        "the probability of each class",
        ("cross_entropy", *_ERRORS),
        SOFTMAX,
        classes=True,
        has_probability=True,
    ),
    "quantiles": Quantiles("quantiles", ("quantile",), scaled=True),
    "gaussian": Gaussian(
        "mean and standard deviation",
        ("gaussian_nll",),
        scaled=True,
        parts=(Part("mean"), Part("deviation", centered=False, positive=True)),
        has_probability=True,
    ),
}
"""The outputs by name. `Network.distribution` gives "quantiles" with the levels of the network."""
