"""What a command says about the order of its records: their times, equal records, and ties."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from beam_rnn.core.errors import shown
from beam_rnn.core.text import counted
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import DAY, SECOND, utc_text
from beam_rnn.records.record_format import decode_record

logger = logging.getLogger(__name__)

STEPS = 1000
"""The number of different usual steps of keys that are counted."""
EXAMPLES = 8
"""The number of equal records of which two are looked for that differ elsewhere."""
_UNITS = {"day": DAY, "hour": 3600 * SECOND, "minute": 60 * SECOND, "second": SECOND}


class Tie(NamedTuple):
    """Two records of one key, time and number that differ."""

    key: str
    time: int
    one: bytes
    other: bytes


class Orders(NamedTuple):
    """The order of the records of some keys.

    Attributes:
        keys: The number of keys.
        records: The number of records, equal ones counted once.
        equal: The number of records beyond those.
        tied: The number of records that have the key, time and number of another one.
        tie: Two of them; None if there are none.
        first, last: The event times of the first and the last, in microseconds since 1970.
        steps: The number of keys with each usual step: the lower median of the differences between
            two times. A key with a single time has none.
        examples: Some of the records that are equal to another one, each with its key.
    """

    keys: int
    records: int
    equal: int
    tied: int
    tie: Tie | None
    first: int
    last: int
    steps: dict[int, int]
    examples: tuple[tuple[str, bytes], ...] = ()


def together(orders: Iterable[Orders]) -> Orders | None:
    """Return the order of all keys; None if there are none."""
    all_orders = list(orders)
    if not all_orders:
        return None
    keys, records, equal, tied, ties, firsts, lasts, steps, examples = zip(*all_orders, strict=True)
    total: Counter[int] = Counter()
    for each in steps:
        total.update(each)
    return Orders(
        sum(keys),
        sum(records),
        sum(equal),
        sum(tied),
        min((tie for tie in ties if tie is not None), default=None),
        min(firsts),
        max(lasts),
        dict(total.most_common(STEPS)),
        tuple(sorted({each for some in examples for each in some})[:EXAMPLES]),
    )


def say(
    orders: Orders | None, pair: tuple[str, ...] | None, columns: Columns, trained: bool
) -> None:
    """Log the order of the records."""
    if orders is None:
        return
    first, *rest = said(orders, columns, trained, pair)
    logger.info("%s", first)
    for line in rest:
        logger.warning("%s", line)


def said(
    orders: Orders, columns: Columns, trained: bool, pair: tuple[str, ...] | None = None
) -> Iterator[str]:
    """The lines of the log.

    Args:
        orders: The order of the records.
        columns: Which fields of a record mean what.
        trained: True if there is a model already, whose columns these are.
        pair: Two equal records that differ in a column that is not read; None if there are none.
    """
    total = orders.records + orders.equal
    steps = sorted(orders.steps.items(), key=lambda each: (-each[1], each[0]))
    usual = f", mostly {span_text(steps[0][0])} apart" if steps else ""
    yield (
        f"read {counted(total, 'record')} of {counted(orders.keys, 'key')}, from "
        f"{utc_text(orders.first)} to {utc_text(orders.last)}{usual}"
    )
    row = "a model trained with --sequence row" if trained else "--sequence row"
    if orders.equal:
        count = "1 record is" if orders.equal == 1 else f"{orders.equal:,} records are"
        such = "" if pair is None else f". They differ in what is not read: {' and '.join(pair)}"
        yield (
            f"{count} equal to another one of the key, and left out: {row} takes all, in the order "
            f"of the file{such}"
        )
    if orders.tie is not None:
        key, time, *two = orders.tie
        one, other = (shown(_fields(data, columns)) for data in two)
        yield (
            f"{orders.tied:,} records have the key and the time of another one, such as those of "
            f"key {key!r} at {utc_text(time)}, {one} and {other}: they are taken in the order of "
            f"their bytes; {row} takes them in the order of the file, --sequence COLUMN in that "
            "of a number"
        )


def _fields(data: bytes, columns: Columns) -> dict[str, float]:
    """Return the numbers of a record by their names."""
    numbers = decode_record(data).numbers.tolist()
    seen, learned = len(columns.number_names), columns.target_names
    fields = dict(zip(columns.scaled_names, numbers, strict=False))
    return dict(zip(learned, numbers[seen:], strict=False)) | fields


def span_text(micros: int) -> str:
    """Return a span of time as a person reads it.

    >>> span_text(31 * DAY), span_text(3600 * SECOND), span_text(250_000)
    ('31 days', '1 hour', '0.25 seconds')
    """
    for name, unit in _UNITS.items():
        if micros % unit == 0:
            return counted(micros // unit, name)
    return f"{micros / SECOND:g} seconds"


def say_unordered(unordered: int) -> None:
    """Log the number of records that were predicted out of the order of their time, if any."""
    if unordered:
        logger.warning(
            "%s out of the order of their time, and predicted as they came: --order event_time "
            "sorts them",
            "1 record was" if unordered == 1 else f"{unordered:,} records were",
        )
