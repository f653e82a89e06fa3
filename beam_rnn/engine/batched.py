"""Records of one key as a batch for `beam_rnn.models.many_sequences.sweep`, and its results."""

from collections.abc import Iterator, Sequence

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.models.many_sequences import LONG_AGO, Records, Standing, Swept
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import NO_NUMBERS, NO_VALUES, STATE_TYPE, KeyState
from beam_rnn.records.record_format import decode_records


def standing(state: KeyState | None, model: Model) -> Standing:
    """Return the state of one key as `sweep` takes it."""
    if state is None:
        state = KeyState("", "", 0, 0, LONG_AGO, 0, NO_VALUES, NO_NUMBERS, NO_NUMBERS)
    values, outputs = state.values, state.outputs
    if not state.steps:
        values, outputs = np.zeros(model.state_size, STATE_TYPE), np.zeros(model.outputs)
    return Standing(
        steps=np.array([state.steps]),
        first_time=np.array([state.first_time]),
        time=np.array([state.time]),
        sequence=np.array([state.sequence]),
        values=values[np.newaxis],
        outputs=outputs[np.newaxis],
    )


def records_of(records: Sequence[bytes]) -> Records:
    """Return encoded records of one key, in order, as `sweep` takes them."""
    time, sequence, starts, ends, numbers = decode_records(records)
    return Records(np.array([len(records)]), time, sequence, starts, ends, numbers)


def state_after(model: Model, swept: Swept, history: Array) -> KeyState:
    """Return the state of the only key of a batch."""
    steps, first_time, time, sequence, values, outputs = (part[0] for part in swept.after)
    return KeyState(
        model.digest,
        model.kernel,
        int(steps),
        int(first_time),
        int(time),
        int(sequence),
        values if steps else NO_VALUES,
        outputs if steps else NO_NUMBERS,
        history,
    )


def history_after(state: KeyState | None, rows: Records, steps: int, kept: int) -> Array:
    """Return the last inputs of the only key of a batch.

    Args:
        state: Its state before the batch.
        rows: Its records.
        steps: The number of steps of its open sequence after them.
        kept: The number of inputs to keep.
    """
    if not kept or not steps:
        return NO_NUMBERS
    here = rows.inputs[-steps:].ravel()
    before = state.history if state is not None and steps > len(rows.time) else NO_NUMBERS
    return np.concatenate([before, here])[-kept * rows.inputs.shape[1] :]


def ended_states(
    model: Model, before: Standing, rows: Records, swept: Swept
) -> Iterator[tuple[int, KeyState, str, int]]:
    """Yield the row of the key, last state, reason and last record of each ended sequence."""
    for key, at, reason, last, steps, first_time in zip(*swept.ended, strict=True):
        if last >= 0:
            time, sequence = int(swept.latest[last]), int(rows.sequence[last])
            values, outputs = swept.values(last), swept.outputs[last]
        else:
            time, sequence = int(before.time[key]), int(before.sequence[key])
            values, outputs = before.values[key], before.outputs[key]
        state = KeyState(
            model.digest,
            model.kernel,
            int(steps),
            int(first_time),
            time,
            sequence,
            values,
            outputs,
            NO_NUMBERS,
        )
        yield int(key), state, reason, int(at)
