"""Checks of the settings of a `Network`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from beam_rnn.core.checks import check_choice, check_number, check_true_or_false, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.nn.cells import CELLS, ELMAN, Cell
from beam_rnn.nn.output_functions import OUTPUTS

if TYPE_CHECKING:
    from beam_rnn.nn.network import Network

INITIAL_STATES = ("zero", "learned")
"""The state before a sequence: h_0 = 0, or parameters h_0 (and c_0) of each layer, which start
at 0 and are learned."""

HEADS = ("linear", "none")
"""What follows the last layer: z = W_y h + b_y, or nothing, so that z is the layer's output."""

OUTPUT_STEPS = ("every", "last")
"""The steps with an output: every step, or the last step of each sequence, computed from the last
state of each direction (many-to-one)."""

MERGES = ("concat", "sum", "mul", "ave")
"""How the outputs of the two directions of a bidirectional layer are combined: concatenated,
added, multiplied, or averaged."""


def check_choices(network: "Network") -> None:
    """Raise if a setting is not one of its choices.

    Raises:
        ConfigurationError: The value and the choices.
    """
    choices_of = {
        "cell": CELLS,
        "activation": ELMAN,
        "merge": MERGES,
        "head": HEADS,
        "initial_state": INITIAL_STATES,
        "output": OUTPUTS,
        "output_steps": OUTPUT_STEPS,
    }
    for name, choices in choices_of.items():
        check_choice(name, getattr(network, name), choices)
    for name in ("reset_after", "bidirectional", "carry"):
        check_true_or_false(name, getattr(network, name))
    if network.residual is not None:
        check_true_or_false("residual", network.residual)


def checked_levels(quantiles: object) -> tuple[float, ...]:
    """Return the levels of quantiles.

    Raises:
        ConfigurationError: They are not increasing numbers between 0 and 1.
    """
    levels = tuple(quantiles) if isinstance(quantiles, (list, tuple)) else ()
    numbers = all(isinstance(level, (int, float)) and 0 < level < 1 for level in levels)
    if not levels or not numbers or sorted(set(levels)) != list(levels):
        raise ConfigurationError(
            f"quantiles must be rising numbers between 0 and 1, got {quantiles!r}"
        )
    return levels


def check_combinations(network: "Network") -> None:
    """Raise if two settings cannot be combined.

    Raises:
        ConfigurationError: The settings, and what to do.
    """
    _check_cell(network)
    if network.merge != "concat" and not network.bidirectional:
        raise ConfigurationError(f"merge={network.merge!r} needs bidirectional=True")
    output = OUTPUTS[network.output]
    if network.quantiles != type(network).quantiles and not output.needs_levels:
        raise ConfigurationError(f"quantiles={network.quantiles!r} needs output='quantiles'")
    if not network.carry and (network.bidirectional or network.output_steps == "last"):
        raise ConfigurationError(
            "carry=False lets every step see its own record alone: that cannot be combined with "
            f"bidirectional={network.bidirectional} or output_steps={network.output_steps!r}"
        )
    check_number("embedding_deviation", network.embedding_deviation)
    if network.embedding_deviation != 1 and not network.embedding_sizes:
        raise ConfigurationError(
            f"embedding_deviation={network.embedding_deviation!r} is the standard deviation of "
            "the vectors of symbols: it needs an embedding"
        )
    if network.residual and not output.scaled:
        raise ConfigurationError(
            f"residual=True adds the last value to a forecast, but output={network.output!r} "
            "is no forecast in the unit of the target"
        )


def _check_cell(network: "Network") -> None:
    cell = CELLS[network.cell]
    if network.activation != "tanh" and not cell.activation:
        raise ConfigurationError(
            f"activation={network.activation!r} is for "
            f"cell={_cells(lambda each: bool(each.activation))} alone: the gates of "
            f"cell={network.cell!r} have their own"
        )
    if not network.reset_after and cell.reset_after is None:
        raise ConfigurationError(
            f"reset_after=False is for cell={_cells(lambda each: each.reset_after is not None)} "
            f"alone, got cell={network.cell!r}"
        )
    if network.remember is not None:
        check_whole("remember", network.remember, least=2)
        if cell.keep_gate is None:
            raise ConfigurationError(
                f"remember={network.remember} is for the gates of "
                f"cell={_cells(lambda each: each.keep_gate is not None)}, got "
                f"cell={network.cell!r}"
            )


def _cells(has: Callable[[Cell], bool]) -> str:
    """Return the names of the cells that have something, for an error."""
    return " and ".join(repr(name) for name, cell in CELLS.items() if has(cell))


def check_sizes(network: "Network") -> None:
    """Raise if a size is not a positive whole number.

    Raises:
        ConfigurationError: The setting and its value.
    """
    sizes_of = {
        "layers": (network.layers,),
        "hidden": network.hidden if isinstance(network.hidden, tuple) else (network.hidden,),
        "horizons": (network.horizons,),
        "embedding": network.embedding_sizes,
    }
    for name, sizes in sizes_of.items():
        for size in sizes:
            check_whole(name, size)
