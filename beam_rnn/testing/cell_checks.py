"""Checks that a custom cell fulfils the contract of the library.

A cell that you add to `beam_rnn.nn.cells.CELLS` can be trained, stored and streamed like the
built-in ones, if it passes `CELL_CHECKS`:

    @pytest.mark.parametrize("check", CELL_CHECKS)
    def test_my_cell(check):
        CELL_CHECKS[check](CELLS["mine"])
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.packed_sequences import running_at
from beam_rnn.nn.cells import Cell, CellParameters, State, project
from beam_rnn.nn.dropout import drop_state
from beam_rnn.nn.layers import layer_backward, layer_forward

INPUTS, HIDDEN, BATCH, STEPS = 3, 5, 4, 6
TYPES = {"float32": 1e-4, "float64": 1e-6}
"""The types in which a cell computes, and the tolerance of gradients in each."""


def projection_error(
    value: Callable[[dict[str, Array]], float],
    gradient: Mapping[str, Array],
    at: Mapping[str, Array],
    seed: int = 0,
    epsilon: float = 1e-6,
) -> float:
    """Return the error of a gradient along a random direction, against central differences.

    It is the difference of the two derivatives, divided by the norm of the gradient. The central
    differences are computed in float64, whatever the type of the gradient.

        >>> at = {"x": np.array([3.0])}
        >>> error = projection_error(lambda w: float(w["x"][0] ** 2), {"x": 2 * at["x"]}, at)
        >>> error < 1e-9
        True

    Args:
        value: The function of its arguments by name.
        gradient: Its gradient at `at`, by name.
        at: The arguments.
        seed: The seed of the direction.
        epsilon: The step along the direction.
    """
    random = np.random.default_rng(seed)
    direction = {name: random.standard_normal(x.shape) for name, x in at.items()}

    def moved(step: float) -> float:
        return value({k: x.astype(np.float64) + step * direction[k] for k, x in at.items()})

    numeric = (moved(epsilon) - moved(-epsilon)) / (2 * epsilon)
    exact = sum(float((gradient[k] * direction[k]).sum()) for k in at)
    norm = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradient.values()))
    return float(abs(numeric - exact) / max(norm, 1e-12))


def _step_arguments(
    cell: Cell, dtype: str, batch: int, hidden: int
) -> tuple[CellParameters, State, Array]:
    random = np.random.default_rng(hidden)
    shapes = cell.shapes(INPUTS, hidden)
    p = CellParameters(*(0.5 * random.standard_normal(s).astype(dtype) for s in shapes))
    state = tuple(random.uniform(-1, 1, (batch, hidden)).astype(dtype) for _ in range(cell.states))
    return p, state, project(p, random.standard_normal((batch, INPUTS)).astype(dtype))


def _each_type(
    cell: Cell, batch: int = BATCH, hidden: int = HIDDEN
) -> Iterator[tuple[str, CellParameters, State, Array]]:
    for dtype in TYPES:
        yield (dtype, *_step_arguments(cell, dtype, batch, hidden))


def check_shapes_and_types(cell: Cell) -> None:
    """Check that states and gradients have the shapes and types of the step's arguments."""
    for dtype, p, state, a in _each_type(cell):
        following, cache = cell.forward(p, state, a)
        step = cell.backward(p, cache, following)
        for name, given, expected in (
            ("state", following, state),
            ("gradient of the state", step.state, state),
            ("gradient of a, W_h and b_h", (step.a, step.W_h, step.b_h), (a, p.W_h, p.b_h)),
        ):
            forms = [(array.shape, array.dtype) for array in expected]
            found = [(array.shape, array.dtype) for array in given]
            assert found == forms, f"{dtype}: the {name} is {found}, not {forms}"


def check_arguments_are_left_alone(cell: Cell) -> None:
    """Check that a step does not write into its arguments."""
    for _, p, state, a in _each_type(cell):
        _, cache = cell.forward(p, state, a)
        for array in (*p, *state, a, *cache):
            array.flags.writeable = False
        try:
            following, _ = cell.forward(p, state, a)
            for array in following:
                array.flags.writeable = False
            cell.backward(p, cache, following)
        except ValueError as error:
            raise AssertionError(f"the cell writes into an argument: {error}") from error


def check_a_row_has_the_same_bits_in_every_batch(cell: Cell) -> None:
    """Check that the next state of a row has the same bits in every batch."""
    for dtype, p, state, a in _each_type(cell, batch=50, hidden=33):
        together, _ = cell.forward(p, state, a)
        for rows in ([0], [7], [49], [3, 1], list(range(11, 40))):
            some, _ = cell.forward(p, tuple(s[rows] for s in state), a[rows])
            for array, whole in zip(some, together, strict=True):
                assert np.array_equal(array, whole[rows]), (
                    f"{dtype}: rows {rows} alone have other bits than in a batch of "
                    "50: multiply with beam_rnn.nn.products.product"
                )


def check_great_numbers_stay_numbers(cell: Cell) -> None:
    """Check that inputs of 10,000 and -10,000 cause no infinity, NaN or warning."""
    for dtype, p, state, a in _each_type(cell):
        for great in (1e4, -1e4):
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                try:
                    following, _ = cell.forward(p, state, np.full_like(a, great))
                except FloatingPointError as error:
                    raise AssertionError(f"{dtype}: a = {great:g}: {error}") from error
            assert all(np.isfinite(array).all() for array in following), (
                f"{dtype}: a = {great:g} gives {following}"
            )


def check_the_gradient_of_a_step(cell: Cell) -> None:
    """Check that `backward` returns the gradient of `forward`, for every argument."""
    for dtype, p, state, a in _each_type(cell):
        names = ("W_h", "b_h", "a", *(f"state {i}" for i in range(cell.states)))
        at = dict(zip(names, (p.W_h, p.b_h, a, *state), strict=True))
        into = tuple(np.random.default_rng(3).standard_normal((len(state), *state[0].shape)))
        _, cache = cell.forward(p, state, a)
        step = cell.backward(p, cache, tuple(d.astype(dtype) for d in into))
        gradient = dict(zip(names, (step.W_h, step.b_h, step.a, *step.state), strict=True))
        error = projection_error(partial(_after_a_step, cell, p, into), gradient, at)
        assert error < TYPES[dtype], f"{dtype}: the gradient is wrong by {error:.1e}"


def _after_a_step(cell: Cell, p: CellParameters, into: State, at: dict[str, Array]) -> float:
    W_h, b_h, a, *state = at.values()
    following, _ = cell.forward(p._replace(W_h=W_h, b_h=b_h), tuple(state), a)
    return sum(float((d * s).sum()) for d, s in zip(into, following, strict=True))


def check_the_gradient_through_time(cell: Cell) -> None:
    """Check the gradient of sequences of different lengths, with and without state dropout."""
    for dtype, p, state, _ in _each_type(cell):
        random = np.random.default_rng(4)
        x, d_h = (random.standard_normal((STEPS, BATCH, size)) for size in (INPUTS, HIDDEN))
        x = x.astype(dtype)
        running = running_at(np.array([STEPS, 4, 4, 1]), STEPS)
        kept = 2 * (random.random((BATCH, HIDDEN)) < 0.5).astype(dtype)
        for mask in (None, kept):
            dropped = drop_state(cell, mask)
            h, last, trace = layer_forward(dropped, p, x, state, running)
            d_last = tuple(np.ones_like(s) for s in last)
            gradient, _, _ = layer_backward(dropped, p, trace, d_h.astype(dtype), d_last, running)
            value = partial(_through_time, dropped, state, x, running, d_h)
            error = projection_error(value, gradient._asdict(), p._asdict())
            assert error < TYPES[dtype], (
                f"{dtype}, dropout {mask is not None}: the gradient through {STEPS} steps is "
                f"wrong by {error:.1e}"
            )
            assert not h[running == 1, 1:].any(), "a sequence continues after its end"


def _through_time(
    cell: Cell, state: State, x: Array, running: Array, d_h: Array, at: dict[str, Array]
) -> float:
    wide = tuple(s.astype(np.float64) for s in state)
    h, last, _ = layer_forward(cell, CellParameters(**at), x.astype(np.float64), wide, running)
    return float((d_h * h).sum()) + sum(float(s.sum()) for s in last)


def check_a_sequence_can_be_cut(cell: Cell) -> None:
    """Check that a sequence cut anywhere and continued has the bits of the whole sequence."""
    for dtype, p, state, _ in _each_type(cell):
        x = np.random.default_rng(5).standard_normal((STEPS, BATCH, INPUTS)).astype(dtype)
        everywhere = np.full(STEPS, BATCH)
        whole, last, _ = layer_forward(cell, p, x, state, everywhere)
        for cut in range(1, STEPS):
            first, carried, _ = layer_forward(cell, p, x[:cut], state, everywhere[:cut])
            second, end, _ = layer_forward(cell, p, x[cut:], carried, everywhere[cut:])
            same = np.array_equal(np.concatenate([first, second]), whole)
            same &= all(np.array_equal(*pair) for pair in zip(end, last, strict=True))
            assert same, f"{dtype}: a sequence cut after step {cut} has other bits"


CELL_CHECKS: dict[str, Callable[[Cell], None]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_shapes_and_types,
        check_arguments_are_left_alone,
        check_a_row_has_the_same_bits_in_every_batch,
        check_great_numbers_stay_numbers,
        check_the_gradient_of_a_step,
        check_the_gradient_through_time,
        check_a_sequence_can_be_cut,
    )
}
"""The checks of a cell, by name."""


def check_cell(cell: Cell) -> None:
    """Run all `CELL_CHECKS`.

        >>> from beam_rnn.nn.cells import CELLS
        >>> check_cell(CELLS["lstm"])

    Args:
        cell: The cell.

    Raises:
        AssertionError: A check fails.
    """
    for check in CELL_CHECKS.values():
        check(cell)
