"""The error of a command if no record can be used."""

from beam_rnn.core.errors import BeamRnnError
from beam_rnn.core.text import counted
from beam_rnn.files.refused import Refused


class NothingUsableError(BeamRnnError):
    """There is no record, or none that can be used."""


def check_usable(refused: list[Refused], total: int, source: str, path: str) -> int:
    """Return the number of records that can be used.

        >>> check_usable([Refused(3, "x is missing", "None")], 3, "a.csv", "p.csv.invalid.jsonl")
        Traceback (most recent call last):
        ...
        beam_rnn.cli.nothing_usable.NothingUsableError: none of 3 records could be used: x is \
missing; see p.csv.invalid.jsonl

    Args:
        refused: The reasons of those that cannot, the most frequent first.
        total: The number of all records.
        source: Where the records come from.
        path: The file of dead letters.

    Raises:
        NothingUsableError: There is no record, or none that can be used.
    """
    if not total:
        raise NothingUsableError(f"there is no record in {source!r}")
    if (count := sum(row.records for row in refused)) == total:
        raise NothingUsableError(
            f"none of {counted(total, 'record')} could be used: {refused[0].reason}; see {path}"
        )
    return total - count
