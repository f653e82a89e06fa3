"""The number of records that were predicted, duplicate, late and invalid, with the reasons."""

from collections.abc import Iterator
from typing import NamedTuple

from beam_rnn.core.text import counted, percent
from beam_rnn.report.wording import text

REASONS = 8
"""The maximum number of reasons that are listed, the most frequent ones."""


class Counts(NamedTuple):
    """The number of records by outcome.

    Attributes:
        records: The number of all records.
        duplicate: The number of records equal to another one in key, time, sequence number and
            inputs.
        invalid: The number of dead letters, by reason.
        predicted: The number of records that `Predict` predicted; None if it did not run.
        late: The number of late records; None if `Predict` did not run or nothing can be late.
        shuffled: The maximum delay with which records arrived, in seconds.
    """

    records: int
    duplicate: int
    invalid: tuple[tuple[str, int], ...]
    predicted: int | None = None
    late: int | None = None
    shuffled: float = 0.0


def records(counts: Counts | None) -> Iterator[str]:
    """Yield a table of the outcomes; nothing if they were not counted."""
    if counts is None:
        return
    invalid = sum(count for _, count in counts.invalid)
    yield "<h2>Records</h2>"
    yield f"<p>{' '.join(_in_words(counts, invalid))}</p>"
    yield '<table class="figures">'
    yield "<tr><th>outcome</th><th>records</th><th>share</th></tr>"
    of = max(1, counts.records)
    for name, what, count in _rows(counts, invalid):
        yield (
            f'<tr><td>{name} <span class="note">{what}</span></td><td>{count:,}</td>'
            f"<td>{percent(count / of)}</td></tr>"
        )
    yield f"<tr><td>all</td><td>{counts.records:,}</td><td></td></tr></table>"
    if invalid:
        yield "<h3>Why records are invalid</h3>"
        yield '<table class="figures"><tr><th>reason</th><th>records</th></tr>'
        ranked = sorted(counts.invalid, key=lambda each: (-each[1], each[0]))
        for reason, count in ranked[:REASONS]:
            yield f"<tr><td>{text(reason)}</td><td>{count:,}</td></tr>"
        more = sum(count for _, count in ranked[REASONS:])
        if more:
            yield f"<tr><td>other reasons</td><td>{more:,}</td></tr>"
        yield "</table>"


def _in_words(counts: Counts, invalid: int) -> Iterator[str]:
    if counts.predicted is None:
        be = "was" if counts.records == 1 else "were"
        yield f"There {be} {counted(counts.records, 'record')}."
    else:
        late = f", each up to {counts.shuffled:,g} seconds late" if counts.shuffled else ""
        yield f"{counted(counts.records, 'record')} went through Predict as a stream{late}."
        known = counts.predicted + counts.duplicate + (counts.late or 0) + invalid
        if known == counts.records:
            yield "Every one is accounted for."


def _rows(counts: Counts, invalid: int) -> Iterator[tuple[str, str, int]]:
    if counts.predicted is None:
        used = counts.records - counts.duplicate - invalid
        yield "used", "for training or evaluation", used
    else:
        yield "predicted", "", counts.predicted
    yield "duplicate", "equal to another record", counts.duplicate
    if counts.late is not None:
        yield "late", "arrived after later records of their key were processed", counts.late
    yield "invalid", "dead letters", invalid
