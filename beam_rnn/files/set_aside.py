"""Writes records that could not be used into a file of their own, and logs why."""

import contextlib
import json
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import apache_beam as beam

from beam_rnn.core.text import counted
from beam_rnn.files.write import WriteLines, json_line

logger = logging.getLogger(__name__)

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


class WriteAside(beam.PTransform):
    """Writes records that could not be used, as NamedTuples, into a file of JSON lines.

    The log has their number, and the most frequent reasons, each with a value. If there are none,
    there is no file: a file of an earlier run is removed.

    Args:
        path: The file.
        what: What happened to them, for the log.
    """

    def __init__(self, path: str, what: str = "could not be used"):
        super().__init__()
        self._path, self._what = path, what

    def expand(self, pcoll: beam.PCollection[Any]) -> beam.PCollection[list[Refused]]:
        """Write; then count by reason, log that, and give it as a list, most frequent first."""
        lines = pcoll | "Format" >> beam.Map(lambda row: json_line(_with_object(row._asdict())))
        written = lines | "Write" >> WriteLines(self._path)
        return (
            pcoll
            | "Reason" >> beam.Map(_reason)
            | "Count" >> beam.CombinePerKey(_together)
            | "Gather" >> beam.combiners.ToList()
            | "InOrder" >> beam.Map(_in_order)
            | "Say" >> beam.Map(self._say, beam.pvalue.AsIter(written))
        )

    def _say(self, refused: list[Refused], _: Iterable[None]) -> list[Refused]:
        """Log the reasons, once the file is written."""
        for line in said(refused, self._what, self._path):
            logger.warning("%s", line)
        return refused


def _with_object(row: dict[str, Any]) -> dict[str, Any]:
    """A dead letter whose record is an object of JSON, not the text of one."""
    with contextlib.suppress(KeyError, ValueError):
        row["record"] = json.loads(row["record"])
    return row


def _reason(row: Any) -> tuple[str, tuple[int, str]]:
    """Return the reason of a row, with a count and a value; late records have none."""
    return getattr(row, "reason", ""), (1, getattr(row, "value", ""))


def _together(each: Iterable[tuple[int, str]]) -> tuple[int, str]:
    counts, values = zip(*each, strict=True)
    return sum(counts), min(values)


def _in_order(reasons: list[tuple[str, tuple[int, str]]]) -> list[Refused]:
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
