"""What became of the records: how many were predicted, and how many were not and why."""

from collections.abc import Iterator
from typing import NamedTuple

from beam_rnn.core.text import counted, percent
from beam_rnn.report.wording import text

REASONS = 8
"""So many reasons are listed, the most frequent ones."""


class Counts(NamedTuple):
    """What became of records.

    Attributes:
        records: How many there were.
        duplicate: How many were equal to another one in key, time, sequence number and inputs.
        invalid: How many were dead letters, by the reason.
        predicted: How many `Predict` answered; None if it was not asked.
        late: How many came after their key's hidden state had passed them; None likewise.
        shuffled: Up to how many seconds late each arrived.
    """

    records: int
    duplicate: int
    invalid: tuple[tuple[str, int], ...]
    predicted: int | None = None
    late: int | None = None
    shuffled: float = 0.0


def records(counts: Counts | None) -> Iterator[str]:
    """A table of what became of them; nothing if they were not counted."""
    if counts is None:
        return
    invalid = sum(count for _, count in counts.invalid)
    yield "<h2>Records</h2>"
    yield f"<p>{' '.join(_in_words(counts, invalid))}</p>"
    yield '<table class="figures">'
    yield "<tr><th>what became of them</th><th>records</th><th>share</th></tr>"
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
        yield "used", "to learn from, or to judge by", used
    else:
        yield "predicted", "", counts.predicted
    yield "duplicate", "equal to another one, which counts", counts.duplicate
    if counts.late is not None:
        yield "late", "came after the hidden state had passed their place", counts.late
    yield "invalid", "dead letters", invalid
