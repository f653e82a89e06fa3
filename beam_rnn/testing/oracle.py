"""The expected results of `Predict`, computed by a plain loop over each key's sorted records."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.errors import RecordError
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.records.record_format import BufferedRecord, decode_record
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import EndedSequence, Prediction


class Expected(NamedTuple):
    """The results of `Predict` for records of which none is late.

    Attributes:
        predictions: One for each step.
        ended: One for each sequence.
        invalid: The number of records that cannot be used.
    """

    predictions: list[Prediction]
    ended: list[EndedSequence]
    invalid: int


def oracle(
    model: Models,
    records: Iterable[Any],
    *,
    order: str = "event_time",
    idle_after: float | None = None,
    with_state: bool = False,
) -> Expected:
    """Return the results of `Predict` for records in one window, whose end ends every sequence.

        >>> from beam_rnn import Columns, Network
        >>> network = Network("gru", hidden=4)
        >>> columns = Columns(key="id", time="t", inputs=["x"])
        >>> model = Model(network, network.initialize(inputs=1, outputs=1, seed=0), columns)
        >>> records = [{"id": "a", "t": t, "x": 0.5} for t in (2, 1, 2)] + ["no record"]
        >>> expected = oracle(model, records)
        >>> [(row.step, row.time) for row in expected.predictions], expected.invalid
        ([(1, 1000000), (2, 2000000)], 1)

    Args:
        model: The model, or per-key models; its kernel must be the one that `Predict` uses.
        records: The records, in any order; equal ones count once.
        order: The order of processing: "event_time" or "sequence". For `Predict(order="arrival")`
            take "event_time", if the records arrive in this order.
        idle_after: As in `Predict`. With order="sequence" the numbers must increase across pauses:
            a restart of the numbers after a pause is not modelled, only one at a start mark.
        with_state: As in `Predict`.
    """
    assert model.columns is not None, "a model without columns cannot read records"
    reader = RecordReader(model.columns)
    keys: dict[str, set[bytes]] = {}
    invalid = 0
    for record in records:
        try:
            key, data = reader.read(record)
        except RecordError:
            invalid += 1
            continue
        keys.setdefault(key, set()).add(data)
    predictions: list[Prediction] = []
    ended: list[EndedSequence] = []
    for key in sorted(keys):
        rows = [decode_record(data) for data in sorted(keys[key])]
        if order == "sequence":
            rows = _by_number(rows)
        own = model.of(key)
        if own is None:
            invalid += len(rows)
        else:
            by_number = order == "sequence"
            invalid += _loop(own, key, rows, idle_after, with_state, by_number, predictions, ended)
    return Expected(predictions, ended, invalid)


def _by_number(rows: list[BufferedRecord]) -> list[BufferedRecord]:
    """Return the rows of one key, sorted by number.

    The numbers restart at a start mark whose number is not above those before it in time.
    """
    runs: list[list[BufferedRecord]] = [[]]
    for row in sorted(rows, key=lambda row: (row.time, not row.starts, row.sequence)):
        before = [each.sequence for each in runs[-1] if each.time < row.time]
        if row.starts and before and row.sequence <= max(before):
            runs.append([])
        runs[-1].append(row)
    return [row for run in runs for row in sorted(run, key=lambda row: row.sequence)]


def _loop(
    model: Model,
    key: str,
    rows: Sequence[BufferedRecord],
    idle_after: float | None,
    with_state: bool,
    by_number: bool,
    predictions: list[Prediction],
    ended: list[EndedSequence],
) -> int:
    """Append the results of one key's rows, in order; return the number of rows that overflowed."""
    sequence: list[Prediction] = []
    state = model.initial_state()
    overflowed = 0

    def end(reason: str, begun: int | None = None) -> None:
        if sequence:
            first, last = sequence[0], sequence[-1]
            row = EndedSequence(
                key=key,
                steps=len(sequence),
                first_time=first.time,
                last_time=int(latest),
                outputs=last.outputs,
                reason=reason,
                model=model.digest,
                state=last.state,
                sequence=last.sequence,
                kernel=model.kernel,
                begun=begun,
            )
            ended.append(row)
            sequence.clear()

    latest: float = -math.inf  # the latest time of the key so far
    reached: float = -math.inf
    begun = None  # the time at which the numbers restarted
    for row in rows:
        idle = idle_after is not None and row.time - latest > idle_after * 1e6
        begins = not sequence or idle or row.starts
        with np.errstate(over="ignore", invalid="ignore"):
            x = model.scaled(key, row.numbers)[np.newaxis].astype(np.float32)
            after, y = model.step(model.initial_state() if begins else state, x)
            outputs = model.restored(key, y[0])
        if np.isinf(x).any() or not (np.isfinite(after).all() and np.isfinite(outputs).all()):
            overflowed += 1  # skipped, as in `Predict`
            continue
        if begins:
            end("idle" if idle else "start")
        if by_number and row.sequence <= reached:
            begun = row.time
        state, latest, reached = after, max(latest, row.time), row.sequence
        prediction = Prediction(
            key=key,
            time=row.time,
            step=len(sequence) + 1,
            outputs=outputs.tolist(),
            model=model.digest,
            state=state[0].tobytes() if with_state else b"",
            sequence=row.sequence,
            kernel=model.kernel,
        )
        sequence.append(prediction)
        predictions.append(sequence[-1])
        if row.ends:
            end("end")
    end("window", begun) if idle_after is None else end("idle")
    return overflowed


def equal_rows(expected: Iterable[Any]) -> Callable[[Iterable[Any]], None]:
    """Return a matcher for `apache_beam.testing.util.assert_that`: the same rows, bit for bit.

        assert_that(outputs.predictions, equal_rows(oracle(model, records).predictions))

    Args:
        expected: The expected rows, in any order, with duplicates.
    """
    wanted = Counter(map(repr, expected))

    def match(actual: Iterable[Any]) -> None:
        found = Counter(map(repr, actual))
        missing = sorted((wanted - found).elements())
        extra = sorted((found - wanted).elements())
        if missing or extra:
            raise AssertionError(
                f"got {found.total()} rows, expected {wanted.total()}. Missing "
                f"{len(missing)}: {missing[:3]}. Unexpected {len(extra)}: {extra[:3]}"
            )

    return match
