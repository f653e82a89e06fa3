"""The arguments that say when records are stepped, in seconds, and their checks."""

from beam_rnn.core.checks import MAX_SECONDS, check_choice, check_number, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.engine.order import Order

ORDERS = ("event_time", "sequence", "arrival")


def order_of(order: str, wait: float, grid: float, max_jump: int | None = None) -> Order:
    """Return the rules of order for the arguments of `Predict`, which are in seconds.

    Raises:
        ConfigurationError: A value outside its range.
    """
    check_choice("order", order, ORDERS)
    check_number("wait, in seconds,", wait, below=MAX_SECONDS)
    check_number("grid, in seconds,", grid, least=1e-3, below=MAX_SECONDS)
    if round(grid * 1e3) != round(grid * 1e3, 6):
        raise ConfigurationError(
            f"grid must be a whole number of milliseconds, in seconds, got {grid!r}"
        )
    if max_jump is not None:
        check_whole("max_jump", max_jump)
        if order != "sequence":
            raise ConfigurationError(
                f"max_jump={max_jump!r} is for order='sequence', got order={order!r}"
            )
    return Order(order, round(wait * 1e6), round(grid * 1e3) * 1000, max_jump)
