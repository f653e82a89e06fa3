"""The keys of a shard, stepped as one matrix through their next records.

What `beam_rnn.engine.steppers.predict.PredictStepper` does key by key, with the same bits. Keys
whose model changed, or whose numbers overflow, are left to it.
"""

import time as clock
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.held import grouped
from beam_rnn.engine.stepper import Step
from beam_rnn.engine.steppers.predict import BATCHED_AT_MOST, PredictStepper
from beam_rnn.engine.table import Maker, Table
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.many_sequences import LONG_AGO, Records, sweep
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import STATE_TYPE
from beam_rnn.records.record_format import encode_records
from beam_rnn.records.results import EndedSequence, Prediction

NO_MAKER = -1


class Stepped(NamedTuple):
    """The results of records, as columns.

    Attributes:
        maker: (records,) int32, which of the table's makers made each prediction; `NO_MAKER` where
            there is none.
        step: (records,), which step of its sequence each was.
        outputs: (records, outputs) float64; the first are those of the maker.
        values: (records, state_size), the hidden state after each, if it is shown; the first
            numbers are those of the maker.
        others: All other results: ended sequences, dead letters, and predictions with
            emit="last".
    """

    maker: Array
    step: Array
    outputs: Array
    values: Array
    others: list[Step]


class ShardStepper:
    """Steps the keys of a table.

    Args:
        stepper: What steps a key alone.
    """

    def __init__(self, stepper: PredictStepper):
        self.alone = stepper
        self._policy = stepper.policy

    def step(self, table: Table, rows: Array, records: Records) -> Stepped:
        """Step keys through their next records.

        Args:
            table: Their states.
            rows: (keys,), the row of each key.
            records: Their records, in order.
        """
        started = clock.perf_counter()
        begins = table.steps[rows] == 0
        if begins.any():
            self.alone.count_unknown(table.names(rows[begins]))
        makers, of_keys = self._makers(table, rows, records)
        stepped = self._nothing(table, len(records.time))
        alone = 0
        for at, of_key, counts in _parts(records.counts):
            places, ends = np.arange(len(records.time))[at], np.cumsum(counts)
            for number, here in grouped(of_keys[of_key]):
                part = at, of_key, counts
                if len(here) == 1:
                    end = int(ends[here[0]])
                    part = places[end - counts[here[0]] : end], of_key[here], counts[here]
                elif len(here) < len(of_key):
                    chosen = np.zeros(len(of_key), bool)
                    chosen[here] = True
                    part = places[np.repeat(chosen, counts)], of_key[here], counts[here]
                if number == NO_MAKER:
                    alone += int(part[2].sum())
                    self._step_alone(table, rows, records, *part, stepped)
                else:
                    alone += self._sweep(
                        table, number, makers[number], rows, records, *part, stepped
                    )
        self.alone.count_steps(len(records.time) - alone, started)
        return stepped

    def _makers(
        self, table: Table, rows: Array, records: Records
    ) -> tuple[dict[int, Model], Array]:
        """Return the models by their numbers, and that of each key; `NO_MAKER` for one by one."""
        newest = self.alone.library.newest
        makers: dict[int, Model] = {}
        if isinstance(newest, KeyedModels):
            numbers = np.full(len(rows), NO_MAKER)
            for i, key in enumerate(table.names(rows)):
                model = newest.of(key)
                if model is not None:
                    numbers[i] = _made_by(table, model)
                    makers[int(numbers[i])] = model
        else:
            number = _made_by(table, newest)
            numbers = np.full(len(rows), number)
            makers[number] = newest
        other = (table.steps[rows] > 0) & (table.maker[rows] != numbers)
        of_keys = np.where(other, NO_MAKER, numbers)
        # A model is kept while its sequence is open; the next one has the newest.
        if (
            other.any()
            and self._policy.on_model_change == "keep"
            and self._policy.idle_after is None
        ):
            marked = records.starts | records.ends
            first = np.cumsum(records.counts) - records.counts
            kept = other & ~np.logical_or.reduceat(marked, first)
            of_keys[kept] = table.maker[rows[kept]]
            for maker, _ in grouped(of_keys[kept]):
                digest, kernel, *_ = table.makers[maker]
                makers[maker] = self.alone.library.made_by(digest, kernel)
        return makers, of_keys

    def end(
        self, table: Table, rows: Array, reason: str
    ) -> Iterator[tuple[int, Prediction | EndedSequence]]:
        """Yield the last results of keys whose states are removed, with the place of each row.

        As `PredictStepper.end` has them for one key.
        """
        begun = np.flatnonzero(table.steps[rows] > 0)
        self.alone.count_ended(len(begun))
        for number, of_maker in grouped(table.maker[rows[begun]]):
            maker, places = table.makers[number], begun[of_maker]
            here = rows[places]
            for results in self._ended(table, here, maker, reason):
                yield from zip(places.tolist(), results, strict=True)

    def _ended(
        self, table: Table, rows: Array, maker: Maker, reason: str
    ) -> Iterator[Iterator[Prediction | EndedSequence]]:
        """Yield the last predictions of sequences of one model, if emitted, and their ends."""
        policy = self._policy
        keys, steps = table.names(rows), table.steps[rows].tolist()
        times = table.time[rows].tolist()
        outputs = table.outputs[rows, : maker.outputs].tolist()
        sequence = table.sequence[rows].tolist()
        states: list[bytes] = [b""] * len(rows)
        if policy.with_state:
            states = [values.tobytes() for values in table.values[rows, : maker.values]]
        if policy.emit == "last":
            yield Prediction.many(
                key=keys,
                time=times,
                step=steps,
                outputs=outputs,
                model=repeat(maker.digest),
                state=states,
                sequence=sequence,
                kernel=repeat(maker.kernel),
            )
        history: Iterable[bytes] = repeat(b"")
        if policy.shows_history:
            history = [table.history_of(row).tobytes() for row in rows.tolist()]
        begun: Iterable[int | None] = repeat(None)
        if policy.idle_after is None:
            begun = [None if at == LONG_AGO else at for at in table.begun[rows].tolist()]
        yield EndedSequence.many(
            key=keys,
            steps=steps,
            first_time=table.first_time[rows].tolist(),
            last_time=times,
            outputs=outputs,
            reason=repeat(reason),
            model=repeat(maker.digest),
            state=states,
            sequence=sequence,
            kernel=repeat(maker.kernel),
            history=history,
            begun=begun,
        )

    def _nothing(self, table: Table, records: int) -> Stepped:
        """Return the results of records, to be filled in."""
        with_state = self._policy.with_state
        return Stepped(
            np.full(records, NO_MAKER, np.int32),
            np.zeros(records, np.int64),
            np.zeros((records, table.outputs.shape[1])),
            np.zeros((records * with_state, table.values.shape[1]), STATE_TYPE),
            [],
        )

    def _sweep(
        self,
        table: Table,
        number: int,
        model: Model,
        rows: Array,
        records: Records,
        at: Array | slice,
        of_key: Array,
        counts: Array,
        stepped: Stepped,
    ) -> int:
        """Step some keys together; return the number of records that had to be stepped alone."""
        part = Records(counts, *(column[at] for column in records[1:]))
        here = rows[of_key]
        names = table.names(here)
        before = table.standing(here, table.makers[number])
        swept = sweep(model, names, before, part, self._policy.idle_after)
        left = swept.left
        if self._policy.shows_history:
            left = np.union1d(left, swept.ended.key)
        if len(left):
            good = np.ones(len(here), bool)
            good[left] = False
            at = np.arange(len(records.time))[at]
            of_left = np.repeat(~good, counts)
            self._step_alone(
                table, rows, records, at[of_left], of_key[~good], counts[~good], stepped
            )
            again = at[~of_left], of_key[good], counts[good]
            alone = int(of_left.sum())
            if not good.any():
                return alone
            return alone + self._sweep(table, number, model, rows, records, *again, stepped)
        table.put(here, number, swept.after)
        if self._policy.replay:
            table.keep_inputs(here, counts, part.inputs)
        if self._policy.emit == "every":
            stepped.maker[at] = number
            stepped.step[at] = swept.step
            stepped.outputs[at, : swept.outputs.shape[1]] = swept.outputs
            if self._policy.with_state:
                stepped.values[at, : swept.packed.shape[1]] = swept.values(slice(None))
        if swept.ended.reason:
            of_part = np.arange(len(records.time))[at]
            for steps in self.alone.ended_in_batch(names, model, before, part, swept):
                stepped.others.extend(
                    step._replace(record=int(of_part[step.record])) for step in steps
                )
        return 0

    def _step_alone(
        self,
        table: Table,
        rows: Array,
        records: Records,
        at: Array | slice,
        of_key: Array,
        counts: Array,
        stepped: Stepped,
    ) -> None:
        """Step keys one by one."""
        at = np.arange(len(records.time))[at]
        start = 0
        for row, n in zip(rows[of_key].tolist(), counts.tolist(), strict=True):
            places = at[start : start + n]
            start += n
            encoded = encode_records(
                records.time[places],
                records.sequence[places],
                records.inputs[places],
                starts=records.starts[places],
                ends=records.ends[places],
            )
            after, steps = self.alone.advance(table.keys[row], table.state(row), encoded)
            table.set_state(row, after)
            for step in steps:
                place = int(places[step.record])
                if isinstance(step.result, Prediction) and self._policy.emit == "every":
                    _fill(table, stepped, place, step.result)
                else:
                    stepped.others.append(step._replace(record=place))


def _made_by(table: Table, model: Model) -> int:
    size = model.state_size
    return table.made_by(Maker(model.digest, model.kernel, size, model.outputs))


def _fill(table: Table, stepped: Stepped, place: int, row: Prediction) -> None:
    """Fill in a prediction of a key that was stepped alone."""
    made = table.maker_of(row.model, row.kernel)
    assert made is not None, "the state of its key was set, unless its sequence ended with it"
    stepped.maker[place] = made
    stepped.step[place] = row.step
    stepped.outputs[place, : len(row.outputs)] = row.outputs
    if row.state:
        values = np.frombuffer(row.state, STATE_TYPE)
        stepped.values[place, : len(values)] = values


def _parts(counts: Array) -> Iterator[tuple[Array | slice, Array, Array]]:
    """Yield all records in parts that are not too large; of each key the first records first.

    The places of the records, the keys that have any, and the number of records of each.
    """
    total = int(counts.sum())
    if total <= BATCHED_AT_MOST:
        yield slice(None), np.arange(len(counts)), counts
        return
    key = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(total) - (np.cumsum(counts) - counts)[key]  # 0 for the first of a key, ...
    order = np.argsort(place, kind="stable")
    for start in range(0, total, BATCHED_AT_MOST):
        at = np.sort(order[start : start + BATCHED_AT_MOST])
        of_key, here = np.unique(key[at], return_counts=True)
        yield at, of_key, here
