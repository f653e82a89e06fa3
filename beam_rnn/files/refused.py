"""Records that could not be used: as lines of a file, and counted by reason."""

import contextlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from beam_rnn.core.text import counted
from beam_rnn.data.event_times import as_datetime
from beam_rnn.files.row_writer import json_line
from beam_rnn.records.results import LateRecord

SHOWN = 5
"""Number of reasons in the log, the most frequent ones."""


class Refused(NamedTuple):
    """The records that were refused for one reason.

    Attributes:
        records: Their number.
        reason: Why they could not be used.
        value: The least of their values, by repr, as an example.
    """

    records: int
    reason: str
    value: str


def with_datetime(late: LateRecord) -> Any:
    """Return a late record whose time is a datetime, which is ISO 8601 in a line."""
    return late._replace(time=as_datetime(late.time))  # type: ignore[arg-type]


def line_of(row: Any) -> str:
    """Return a dead letter or a late record, a NamedTuple, as a line of JSON."""
    return json_line(_with_object(row._asdict()))


def _with_object(row: dict[str, Any]) -> dict[str, Any]:
    """A dead letter whose record is an object of JSON, not the text of one."""
    with contextlib.suppress(KeyError, ValueError):
        row["record"] = json.loads(row["record"])
    return row


def reason_of(row: Any) -> tuple[str, tuple[int, str]]:
    """Return the reason of a row, with a count and a value; late records have none."""
    return getattr(row, "reason", ""), (1, getattr(row, "value", ""))


def together(each: Iterable[tuple[int, str]]) -> tuple[int, str]:
    """Return the number of records of a reason, and the least of their values."""
    counts, values = zip(*each, strict=True)
    return sum(counts), min(values)


def most_frequent(reasons: list[tuple[str, tuple[int, str]]]) -> list[Refused]:
    """Return reasons, each with its count and a value, the most frequent first."""
    rows = [Refused(count, reason, value) for reason, (count, value) in reasons]
    return sorted(rows, key=lambda row: (-row.records, row.reason))


def said(refused: list[Refused], what: str, path: str) -> list[str]:
    """Return the lines of the log.

    >>> said([Refused(2, "x must be finite", "inf")], "were refused", "a.jsonl")
    ['2 records were refused: see a.jsonl', '  2: x must be finite, such as inf']
    """
    total = sum(row.records for row in refused)
    if not total:
        return []
    what = what.replace("were", "was") if total == 1 else what
    first = f"{counted(total, 'record')} {what}: see {path}"
    with_reason = [row for row in refused[:SHOWN] if row.reason]
    each = [f"  {row.records:,}: {row.reason}, such as {row.value[:80]}" for row in with_reason]
    rest = sum(row.records for row in refused[SHOWN:])
    return [first, *each, *([f"  {rest:,}: for other reasons"] if rest else [])]


def refused_of(rows: Iterable[Any]) -> list[Refused]:
    """Return the records that were refused by reason, the most frequent first."""
    by_reason: dict[str, list[tuple[int, str]]] = {}
    for reason, each in map(reason_of, rows):
        by_reason.setdefault(reason, []).append(each)
    return most_frequent([(reason, together(each)) for reason, each in by_reason.items()])
