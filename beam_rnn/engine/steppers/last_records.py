"""The last records of each key, as a sequence at every record: a window that slides by count."""

from collections.abc import Sequence

from beam_rnn.data.columns import Columns
from beam_rnn.engine.stepper import Counters, Step, Stepper
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.models.state_format import (
    NO_NUMBERS,
    NO_VALUES,
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


class LastRecordsStepper(Stepper):
    """Keeps the last records of a key where others keep a hidden state.

    Args:
        columns: What the records hold.
        length: The maximum number of steps of a sequence.
        idle_after: As for `Stepper`.
        counters: Where steps are counted.
    """

    def __init__(self, columns: Columns, length: int, idle_after: int | None, counters: Counters):
        super().__init__(columns, counters, idle_after)
        self._length = length

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """Return the state after the records, and a sequence for each that completes a step."""
        before = None if data is None else decode_state(data)
        kept = [] if before is None else _records(before, self.columns)
        steps, latest = (0, LONG_AGO) if before is None else (before.steps, before.time)
        results: list[Step] = []
        state = data
        for i, record in enumerate(records):
            time, number, starts, ends, _ = decode_record(record)
            if self._ends_before(latest, time, starts=starts):
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
        """Return nothing: every sequence was returned by `step`."""
        return []


def _state(records: list[bytes], steps: int, time: int, number: int) -> KeyState:
    """Return a state whose history are these records."""
    history = NO_NUMBERS
    if records:
        of_time, of_number, _, _, numbers = decode_records(records)
        history = encode_kept(KeptRecords(of_time, of_number, numbers))
    return KeyState(_NO_MODEL, "none", steps, time, time, number, NO_VALUES, NO_NUMBERS, history)


def _records(state: KeyState, columns: Columns) -> list[bytes]:
    """Return the records of a state: the inverse of `_state`."""
    weight = columns.weight is not None
    kept = decode_kept(state.history, columns.number_size + columns.target_size + weight)
    return [
        encode_record(time, number, row)
        for time, number, row in zip(
            kept.time.tolist(), kept.sequence.tolist(), kept.numbers, strict=True
        )
    ]
