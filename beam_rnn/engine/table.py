"""The hidden states of many keys in memory, a row each, so that they can be stepped as one matrix.

A row outlives its key's state while records of the key are buffered. The rows of removed keys are
used for new ones.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.models.many_sequences import LONG_AGO, Standing
from beam_rnn.models.state_format import STATE_TYPE, KeyState

_NO_ROW = -1
_FIRST_ROWS = 64
_GROWTH = 1.5
_COLUMNS = ("keys", "has_state", "maker", "steps", "first_time", "time", "sequence", "due",
            "begun", "values", "outputs", "kept", "history")  # fmt: skip


class Maker(NamedTuple):
    """What computed a state, and the size of that state.

    Attributes:
        digest: The model.
        kernel: "numpy" or "fused"; "none" if nothing did.
        values: The size of its hidden state.
        outputs: The number of its outputs.
    """

    digest: str
    kernel: str
    values: int
    outputs: int


class Table:
    """Hidden states, a row a key; a column is an array of which row i belongs to key i.

    Args:
        inputs: The number of inputs of a record.
        replay: The number of last inputs that are kept.

    Attributes:
        keys: The key of each row; None for a row that no key has.
        has_state: Whether it has a state, and not only a row.
        maker: Which of `makers` made it.
        steps, first_time, time, sequence, values, outputs: As in `KeyState`; `values` and
            `outputs` are as wide as those of the largest maker.
        due, begun: As in `beam_rnn.engine.order.Place`.
        kept: The number of its last inputs that are kept.
        history: (rows, replay, inputs), the last inputs; the latest are at the end.
    """

    def __init__(self, inputs: int, replay: int):
        self.makers: list[Maker] = []
        self._numbers: dict[Maker, int] = {}
        self._with_outputs: dict[tuple[str, str], int] = {}  # by digest and kernel
        self.keys = np.zeros(0, object)
        self._used = 0
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self.has_state = np.zeros(0, bool)
        self.maker = np.zeros(0, np.int32)
        self.steps = np.zeros(0, np.int64)
        self.first_time = np.zeros(0, np.int64)
        self.time = np.zeros(0, np.int64)
        self.sequence = np.zeros(0, np.int64)
        self.due = np.zeros(0, np.int64)
        self.begun = np.zeros(0, np.int64)
        self.values = np.zeros((0, 0), STATE_TYPE)
        self.outputs = np.zeros((0, 0))
        self.kept = np.zeros(0, np.int32)
        self.history = np.zeros((0, replay, inputs))

    def __len__(self) -> int:
        return len(self._rows)

    def in_use(self) -> Array:
        """Return the rows that keys have."""
        return np.array(list(self._rows.values()), np.int64)

    def rows(self, keys: Sequence[str]) -> Array:
        """Return the row of each key; a new key gets one, without a state."""
        rows = np.fromiter(map(self._rows.get, keys, repeat(_NO_ROW)), np.int64, len(keys))
        for i in np.flatnonzero(rows == _NO_ROW).tolist():
            rows[i] = self._add(keys[i])
        return rows

    def made_by(self, maker: Maker) -> int:
        """Return the number of a maker; make the columns wide enough for its states."""
        number = self._numbers.get(maker)
        if number is None:
            number = self._numbers[maker] = len(self.makers)
            self.makers.append(maker)
            if maker.outputs:
                self._with_outputs[maker.digest, maker.kernel] = number
            self.values = _widened(self.values, maker.values)
            self.outputs = _widened(self.outputs, maker.outputs)
        return number

    def maker_of(self, digest: str, kernel: str) -> int | None:
        """Return the number of a maker of predictions; None if there is none yet."""
        return self._with_outputs.get((digest, kernel))

    def standing(self, rows: Array, maker: Maker) -> Standing:
        """Return the states of keys, as `sweep` takes them."""
        return Standing(
            self.steps[rows],
            self.first_time[rows],
            np.where(self.has_state[rows], self.time[rows], LONG_AGO),
            self.sequence[rows],
            self.values[:, : maker.values][rows],
            self.outputs[:, : maker.outputs][rows],
        )

    def put(self, rows: Array, maker: int | Array, after: Standing) -> None:
        """Replace the states of keys."""
        self.has_state[rows] = True
        self.maker[rows] = maker
        self.steps[rows] = after.steps
        self.first_time[rows] = after.first_time
        self.time[rows] = after.time
        self.sequence[rows] = after.sequence
        self.values[rows, : after.values.shape[1]] = after.values
        self.outputs[rows, : after.outputs.shape[1]] = after.outputs

    def load(
        self,
        rows: Array,
        maker: int | Array,
        place: Sequence[Array],
        values: Array,
        outputs: Array,
        kept: Array,
        history: Array,
    ) -> None:
        """Take up stored states of keys.

        `place` is steps, first_time, time, sequence, due and begun.
        """
        steps, first_time, time, sequence, self.due[rows], self.begun[rows] = place
        self.put(rows, maker, Standing(steps, first_time, time, sequence, values, outputs))
        here, stored = self.history.shape[1], history.shape[1]
        fewer = min(here, stored)
        self.kept[rows] = np.minimum(kept, fewer)
        self.history[rows, here - fewer :] = history[:, stored - fewer :]

    def keep_inputs(self, rows: Array, counts: Array, inputs: Array) -> None:
        """Keep the last inputs of keys that were stepped.

        Args:
            rows: The rows of the keys, whose states are those after their records.
            counts: (rows,), the number of records of each.
            inputs: (records, inputs), those of the first key, then those of the second, ...
        """
        replay = self.history.shape[1]
        steps = self.steps[rows]
        here = np.minimum(steps, counts)  # of the open sequence
        before = np.where(steps > counts, self.kept[rows], 0)
        back = np.arange(replay)[::-1]  # records before the last one
        is_new = back < here[:, np.newaxis]
        new = inputs[np.maximum(np.cumsum(counts)[:, np.newaxis] - 1 - back, 0)]
        old_place = np.minimum(replay - 1 - back + here[:, np.newaxis], replay - 1)
        old = self.history[rows[:, np.newaxis], old_place]
        self.history[rows] = np.where(is_new[..., np.newaxis], new, old)
        self.kept[rows] = np.minimum(here + before, replay)

    def state(self, row: int) -> KeyState | None:
        """Return the state of a key."""
        if not self.has_state[row]:
            return None
        maker = self.makers[self.maker[row]]
        steps = int(self.steps[row])
        begun = steps > 0
        return KeyState(
            maker.digest,
            maker.kernel,
            steps,
            int(self.first_time[row]),
            int(self.time[row]),
            int(self.sequence[row]),
            self.values[row, : maker.values * begun].copy(),
            self.outputs[row, : maker.outputs * begun].copy(),
            self.history_of(row),
        )

    def history_of(self, row: int) -> Array:
        """Return the last inputs of a key that are kept, one record after the other."""
        replay = self.history.shape[1]
        return self.history[row, replay - self.kept[row] :].ravel()

    def set_state(self, row: int, state: KeyState | None) -> None:
        """Replace the state of a key."""
        if state is None:
            self.drop_states(np.array([row]))
            return
        number = self.maker_of(state.digest, state.kernel)
        if state.steps or number is None:  # else the state is only its place
            maker = Maker(state.digest, state.kernel, len(state.values), len(state.outputs))
            number = self.made_by(maker)
        self.maker[row] = number
        self.has_state[row] = True
        self.steps[row], self.first_time[row] = state.steps, state.first_time
        self.time[row], self.sequence[row] = state.time, state.sequence
        self.values[row, : len(state.values)] = state.values
        self.outputs[row, : len(state.outputs)] = state.outputs
        _, replay, inputs = self.history.shape
        kept = self.history[0, :0]
        if replay and len(state.history) % inputs == 0:
            kept = state.history.reshape(-1, inputs)[-replay:]
        self.kept[row] = len(kept)
        self.history[row, replay - len(kept) :] = kept

    def names(self, rows: Array) -> list[str]:
        """Return the keys of rows."""
        return self.keys[rows].tolist()

    def with_state(self) -> Array:
        """Return the rows that have a state."""
        return np.flatnonzero(self.has_state)

    def drop_states(self, rows: Array) -> None:
        """Remove the states of keys."""
        self.has_state[rows] = False
        self.due[rows] = self.begun[rows] = LONG_AGO
        self.steps[rows] = 0
        self.kept[rows] = 0

    def remove(self, rows: Array) -> None:
        """Remove keys."""
        self.drop_states(rows)
        for row in rows.tolist():
            del self._rows[self.keys[row]]
            self.keys[row] = None
        self._free += rows.tolist()

    def _add(self, key: str) -> int:
        """Return a row for a key; the same key always has the same."""
        known = self._rows.get(key)
        if known is not None:
            return known
        if self._free:
            row = self._free.pop()
        else:
            row = self._used
            self._used += 1
            if row >= len(self.keys):
                self._grow(max(_FIRST_ROWS, int(row * _GROWTH)))
        self.keys[row] = key
        self.due[row] = self.begun[row] = LONG_AGO
        self._rows[key] = row
        return row

    def _grow(self, rows: int) -> None:
        """Make room for this number of rows."""
        for name in _COLUMNS:
            column = getattr(self, name)
            wider: Array = np.zeros((rows, *column.shape[1:]), column.dtype)
            wider[: len(column)] = column
            setattr(self, name, wider)


def _widened(column: Array, width: int) -> Array:
    """Return a column with at least `width` numbers a row."""
    if column.shape[1] >= width:
        return column
    wider = np.zeros((len(column), width), column.dtype)
    wider[:, : column.shape[1]] = column
    return wider
