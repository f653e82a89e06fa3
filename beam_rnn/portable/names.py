"""Names of the fields of rows, as a schema takes them in every language."""

import re
from collections.abc import Iterable

from apache_beam.utils.timestamp import Timestamp


def field_names(names: Iterable[str], suffix: str = "") -> list[str]:
    """A field name for each name, all different.

    A sign that cannot stand there becomes "_", and what cannot begin one has "y" before it.

        >>> field_names(["load", "load+24 q0.9", "7", "load 24 q0.9"], "_prediction")
        ['load_prediction', 'load_24_q0_9_prediction', 'y7_prediction', 'load_24_q0_9_prediction_2']

    Args:
        names: The names.
        suffix: What follows each.
    """
    found: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"\W", "_", name) + suffix
        plain = plain if plain.isidentifier() and plain[0] != "_" else f"y{plain}"
        numbered, number = plain, 1
        while numbered in found:
            number += 1
            numbered = f"{plain}_{number}"
        found[numbered] = None
    return list(found)


def time_text(micros: int) -> str:
    """A time in microseconds since 1970 as ISO 8601 text, which every sink can write.

    >>> time_text(1_404_172_800_000_000)
    '2014-07-01T00:00:00Z'
    """
    return Timestamp(micros=micros).to_rfc3339()
