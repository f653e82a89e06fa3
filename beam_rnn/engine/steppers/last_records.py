"""The last records of each key, as a sequence at every record: a window that slides by count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from beam_rnn.data.columns import Columns
from beam_rnn.engine.stepper import Step
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.models.state_format import (
    KeptRecords,
    KeyState,
    decode_kept,
    decode_state,
    encode_kept,
    encode_state,
)
from beam_rnn.records.cutting import cut_ordered
from beam_rnn.records.record_format import decode_record, decode_records, encode_record

_NO_MODEL = "0" * 64
_NO_VALUES, _NO_NUMBERS = np.zeros(0, np.float32), np.zeros(0)


class Gatherer:
    """Keeps the last records of a key where `steppers.predict.Stepper` keeps a hidden state.

    Args:
        columns: What the records hold.
        length: How many steps a sequence has at the most.
        idle_after: A sequence ends where the next record is more than so many microseconds
            later; None for nowhere.
    """

    def __init__(self, columns: Columns, length: int, idle_after: int | None):
        self.columns = columns
        self._length = length
        self._idle_after = idle_after

    def refresh(self) -> None:
        """Nothing is loaded."""

    def use(self, models: Iterable[str]) -> None:
        """Nothing is loaded."""

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """The state after the records, and a sequence for each that completes a step."""
        before = None if data is None else decode_state(data)
        kept = [] if before is None else _records(before, self.columns)
        steps, latest = (0, LONG_AGO) if before is None else (before.steps, before.time)
        results: list[Step] = []
        state = data
        for i, record in enumerate(records):
            time, number, starts, ends, _ = decode_record(record)
            idle = self._idle_after is not None and time - latest > self._idle_after
            if starts or idle:
                kept, steps = [], 0
            latest = max(latest, time)
            kept = [*kept, record][-(self._length + self.columns.horizons[-1]) :]
            steps += 1
            sequences = cut_ordered(key, kept, self.columns, self._length, None)
            results.extend(Step(i, time, sequence) for sequence in sequences)
            if ends:
                kept, steps = [], 0
            state = encode_state(_state(kept, steps, latest, number))
        return state, results

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:  # noqa: ARG002
        """Every sequence has been given."""
        return []


def _state(records: list[bytes], steps: int, time: int, number: int) -> KeyState:
    """Records as the history of a state."""
    history = _NO_NUMBERS
    if records:
        of_time, of_number, _, _, numbers = decode_records(records)
        history = encode_kept(KeptRecords(of_time, of_number, numbers))
    return KeyState(_NO_MODEL, "none", steps, time, time, number, _NO_VALUES, _NO_NUMBERS, history)


def _records(state: KeyState, columns: Columns) -> list[bytes]:
    """The inverse of `_state`."""
    weight = columns.weight is not None
    kept = decode_kept(state.history, columns.number_size + columns.target_size + weight)
    return [
        encode_record(time, number, row)
        for time, number, row in zip(
            kept.time.tolist(), kept.sequence.tolist(), kept.numbers, strict=True
        )
    ]


@dataclass(frozen=True)
class GatherSteps:
    """Makes a `Gatherer` on a worker."""

    columns: Columns
    length: int
    idle_after: int | None

    def stepper(self) -> Gatherer:
        """A new one."""
        return Gatherer(self.columns, self.length, self.idle_after)
