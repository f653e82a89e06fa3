"""The rules of `Predict`, one key and one record at a time: what a stream must give, bit for bit.

Only the arithmetic of one step is the library's: `Model.step`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.records.results import EndedSequence, LateRecord, Prediction, SequenceGap

SECOND, MILLISECOND = 1_000_000, 1000


class Record(NamedTuple):
    """A record of one key. Equal ones are the same record; they sort as they are stepped."""

    time: int  # in microseconds
    number: int
    marks: int  # 1 without a start mark, and 2 for an end mark
    inputs: bytes  # float64; every NaN is the same

    @classmethod
    def of(cls, row, columns):
        """The record in a dict, whose time is a number of seconds."""
        values = [math.nan if row[name] is None else row[name] for name in columns.inputs]
        return cls(
            round(row[columns.time] * SECOND),
            row[columns.sequence] if columns.sequence else 0,
            (not (columns.start and row[columns.start]))
            + 2 * bool(columns.end and row[columns.end]),
            np.array([math.nan if math.isnan(v) else v + 0.0 for v in values], "<f8").tobytes(),
        )

    @property
    def goes_on(self):
        return self.marks % 2 == 1

    @property
    def ends(self):
        return self.marks >= 2

    @property
    def numbers(self):
        return np.frombuffer(self.inputs, "<f8")


class Rules(NamedTuple):
    """The arguments of `Predict`; times in microseconds."""

    order: str
    wait: int
    grid: int
    idle_after: int | None
    policy: str
    restarts: bool  # whether there are start marks, with which numbers may begin anew
    replay: int  # how many of the last inputs are kept for it
    emit: str

    def due(self, time, at):
        """When the watermark has passed a time, and the Beam timestamp with which it came."""
        on_grid = ((time + self.wait) // self.grid + 1) * self.grid
        return on_grid if at == -math.inf else max(on_grid, -whole(-at))

    def place(self, record):
        return record.number if self.order == "sequence" else record.time


class Open(NamedTuple):
    """An open sequence."""

    model: Any
    values: Any
    steps: int
    first: int
    latest: int
    last: Record
    outputs: Any
    kept: tuple


class ModelChangedError(Exception):
    """A sequence would continue with another model, and the policy is "error"."""


class Said:
    """The results."""

    def __init__(self):
        self.predictions, self.late, self.invalid, self.ended, self.gaps = [], [], [], [], []
        self.notes = None  # what of a record is not read, where it comes out with its prediction


class Key:
    """One key in one window.

    Args:
        key: Its name.
        rules: What `Predict` is told.
        said: Takes what comes out.
        end: The last moment of the window, in microseconds.
        closes: When the window is closed: the allowed lateness later.
    """

    def __init__(self, key, rules, said, end, closes):
        self.key, self.rules, self.said, self.end, self.closes = key, rules, said, end, closes
        self.by_number = rules.order == "sequence"
        self.open = None
        self.waiting = {}  # records, and when each is due
        self.forget()

    def forget(self):
        """The key is as if it had never had a record."""
        self.reached = None  # the last record that was stepped
        self.latest = -math.inf  # the latest time of those that were
        self.turn = -math.inf  # when the last one had its turn
        self.begun = -math.inf  # the time from which its numbers count

    def start_from(self, sequence):
        """A sequence that comes from elsewhere, unless there is one here."""
        if self.reached is None:
            self.open, self.reached, self.latest = sequence, sequence.last, sequence.latest

    def arrive(self, records, newest):
        """Records with their Beam timestamps come together."""
        if self.rules.order == "arrival":
            for record, at in records:
                self.step(record, at, newest)
            return
        came = set()
        for record, at in records:
            # One with a lower number may belong to those behind a start mark that is not here yet.
            later = (
                self.by_number and self.rules.restarts and self.begun <= record.time > self.latest
            )
            if self.has_passed(record) and not later:
                self.late(record)
            else:
                came.add(record.number)
                due = min(self.rules.due(record.time, at), whole(self.closes))
                self.waiting[record] = min(due, self.waiting.get(record, due))
        ahead = [(run, record) for run, late, record in self.in_order() if not late]
        if self.by_number and self.reached is not None and ahead:
            run, record = ahead[0]
            following = self.reached.number + 1  # looked at when it comes, and when it is due
            if run == 0 and record.number == following and following in came:
                self.take(self.followed(ahead, 0), newest)

    def advance(self, watermark, newest):
        """The watermark is here: all that is to be done until then, in its order."""
        while (now := min([self.idle_at(), *self.waiting.values()])) <= watermark:
            due = {record for record, at in self.waiting.items() if at <= now}
            ahead = [(run, record) for run, late, record in self.in_order() if not late]
            last = max((i for i, (_, record) in enumerate(ahead) if record in due), default=None)
            if last is not None:  # those before it come along, and those whose number follows
                due.update(self.followed(ahead, last))
            self.take(due, newest)
            if self.idle_at() <= now:
                self.close("idle")
                self.forget()

    def finish(self, newest):
        """The window is closed."""
        self.advance(self.closes, newest)
        self.close("window", self.begun if self.rules.idle_after is None else -math.inf)

    def in_order(self):
        """The records that wait, in order, each with its run of numbers, and whether it is late.

        A run begins after a pause, and with a start mark whose number is not above those before it
        in time. Late records count for neither.
        """
        if not self.by_number:
            return [(0, False, record) for record in sorted(self.waiting)]
        after = self.pauses()
        last = None  # the time of the last record: of the start marks of one time the first counts
        runs, run, high = {}, 0, -math.inf if self.reached is None else self.reached.number
        pauses = 0
        for record in sorted(
            self.waiting, key=lambda r: (after[r][0], r.time, r.goes_on, r.number)
        ):
            n, before = after[record]
            marked = not record.goes_on and record.time != last and record.time > before
            if n > pauses or (marked and record.number <= high):
                pauses, run, high = n, run + 1, -math.inf
            last = record.time
            late = run == 0 and self.is_behind(record)
            if not late:
                high = max(high, record.number)
            runs[record] = run, late
        ordered = sorted(self.waiting, key=lambda r: (runs[r], self.rules.place(r), r))
        return [(*runs[record], record) for record in ordered]

    def pauses(self):
        """How many pauses there are before each record that waits, and the time before the last.

        A pause is where a record is more than `idle_after` later than all that are due before it.
        """
        after, latest, before, n = {}, self.latest, self.latest, 0
        due = {}  # those of one time and number are taken together
        for record, at in self.waiting.items():
            due[record[:2]] = min(at, due.get(record[:2], at))
        for record in sorted(self.waiting, key=lambda r: (due[r[:2]], r)):
            if self.is_idle(record, latest):
                before, n = latest, n + 1
            if n or not self.is_behind(record):
                latest = max(latest, record.time)
            after[record] = n, before
        return after

    def is_behind(self, record):
        """Return True if the numbers have passed a record and do not restart before it."""
        if self.reached is None:
            return False
        anew = [
            other.time
            for other in self.waiting
            if not other.goes_on
            and other.time > self.latest
            and other.number <= self.reached.number
        ]
        behind_mark = record.time >= min(anew, default=math.inf)
        passed = record.number <= self.reached.number and not behind_mark
        return passed or record.time < self.begun

    def followed(self, ahead, last):
        """The records up to one, and those that have the same place or the next number."""
        taken = [record for _, record in ahead[: last + 1]]
        for (run, one), (following_run, other) in zip(
            ahead[last:], ahead[last + 1 :], strict=False
        ):
            place, following = self.rules.place(one), self.rules.place(other)
            if run != following_run or following > place + self.by_number:
                break
            taken.append(other)
        return taken

    def has_passed(self, record):
        """Return True if the key has passed the position of a record."""
        if self.reached is None:
            return False
        if not self.by_number:
            return record.time <= self.latest
        if record.time < self.begun:
            return True
        anew = not record.goes_on and record.time > self.latest
        return record.number <= self.reached.number and not (anew or self.is_idle(record))

    def is_idle(self, record, latest=None):
        """Return True if the open sequence is idle before a record."""
        latest = self.latest if latest is None else latest
        idle_after = self.rules.idle_after
        return idle_after is not None and latest > -math.inf and record.time - latest > idle_after

    def idle_at(self):
        """When the sequence ends if no record comes; never while one that belongs to it waits."""
        idle_after = self.rules.idle_after
        if idle_after is None or self.reached is None:
            return math.inf
        if not all(map(self.is_idle, self.waiting)):
            return math.inf
        at = self.rules.due(self.latest + idle_after, self.turn + idle_after)
        return at if at <= self.end else math.inf

    def take(self, records, newest):
        """Process due records in order, or report them as late."""
        latest = self.latest
        for _, _, record in self.in_order():
            if record not in records:
                continue
            before, idle, begun = self.reached, self.is_idle(record), record.time
            if idle:  # all that belongs to what was before is late from now on
                begun = self.latest + self.rules.idle_after + 1
            due = self.waiting.pop(record)
            late = self.has_passed(record) if self.by_number else record.time <= latest
            if late:
                self.late(record)
            elif self.step(record, due, newest) and self.by_number and before is not None:
                if record.number <= before.number:
                    self.begun = begun
                elif record.number > before.number + 1 and not idle:
                    first, last = before.number + 1, record.number - 1
                    self.said.gaps.append(SequenceGap(self.key, record.time, first, last))

    def step(self, record, due, newest):
        """Process a record. Return False, without any effect, if it cannot be stepped."""
        model, sequence, reason = self.goes_on(record, newest.of(self.key))
        if model is None and reason == "model":  # the key has lost its model
            self.close(reason)
        stepped = None
        if model is not None:
            before = model.initial_state() if sequence is None else sequence.values
            stepped = one_step(model, self.key, before, record.numbers)
        if stepped is None:
            self.said.invalid.append(self.key)
            return False
        if reason is not None:
            self.close(reason)
        if sequence is None:
            sequence = Open(model, None, 0, record.time, None, None, None, ())
        values, outputs = stepped
        kept = (*sequence.kept, record.inputs)[-self.rules.replay :] if self.rules.replay else ()
        self.latest = max(self.latest, record.time)
        self.open = Open(
            model, values, sequence.steps + 1, sequence.first, self.latest, record, outputs, kept
        )
        self.reached, self.turn = record, self.rules.due(record.time, due)
        if self.rules.emit == "every":
            self.said.predictions.append(self.prediction(self.open, record.time))
        if record.ends:
            self.close("end")
        return True

    def goes_on(self, record, model):
        """What steps a record: a model, the sequence that goes on, and why the one before ends."""
        sequence, policy = self.open, self.rules.policy
        if sequence is None:
            return model, None, None
        if self.is_idle(record):
            return model, None, "idle"
        if not record.goes_on:
            return model, None, "start"
        if sequence.model == model:
            return model, sequence, None
        if policy == "error":
            raise ModelChangedError
        if policy == "keep":
            return sequence.model, sequence, None
        replayed = self.replayed(sequence, model) if policy == "replay" and model else None
        return model, replayed, None if replayed else "model"

    def replayed(self, sequence, model):
        """A sequence that another model goes on with, from its last inputs; None without any."""
        values, outputs = model.initial_state(), None
        for inputs in sequence.kept:
            stepped = one_step(model, self.key, values, np.frombuffer(inputs, "<f8"))
            values, outputs = stepped or (values, outputs)
        if outputs is None:
            return None
        return sequence._replace(model=model, values=values, outputs=outputs)

    def close(self, reason, begun=-math.inf):
        """The sequence ends, if there is one; `begun` of one that was open."""
        sequence, self.open = self.open, None
        if sequence is None:
            return
        if self.rules.emit == "last":
            self.said.predictions.append(self.prediction(sequence, sequence.latest))
        model, outputs = sequence.model, sequence.outputs.tolist()
        span = self.key, sequence.steps, sequence.first, sequence.latest, outputs
        state = sequence.values[0].tobytes()
        history = b"".join(sequence.kept)
        facts = model.digest, state, sequence.last.number, model.kernel, history
        anew = None if begun == -math.inf else begun
        self.said.ended.append(EndedSequence(*span, reason, *facts, anew))

    def prediction(self, sequence, time):
        model, state = sequence.model, sequence.values[0].tobytes()
        facts = self.key, time, sequence.steps, sequence.outputs.tolist(), model.digest, state
        return Prediction(*facts, sequence.last.number, model.kernel)

    def late(self, record):
        behind = self.latest - record.time
        row = self.key, record.time, behind, record.numbers.tolist(), record.number
        self.said.late.append(LateRecord(*row))


def one_step(model, key, values, numbers):
    """The hidden state and the outputs after a record; None if they overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        x = model.scaled(key, numbers)[np.newaxis].astype(np.float32)
        after, y = model.step(values, x)
        outputs = model.restored(key, y[0])
    if np.isinf(x).any() or not (np.isfinite(after).all() and np.isfinite(outputs).all()):
        return None
    return after, outputs


def whole(micros):
    """A time as a timer has it: whole milliseconds."""
    return micros // MILLISECOND * MILLISECOND


class Stream:
    """All keys, in all windows.

    Args:
        rules: What `Predict` is told.
        model: The model at first.
    """

    def __init__(self, rules, model):
        self.rules, self.model = rules, model
        self.said = Said()
        self.watermark = -math.inf
        self.keys = {}

    def key(self, key, window):
        """A key in a window: its last moment, and when it is closed."""
        if (key, window) not in self.keys:
            self.keys[key, window] = Key(key, self.rules, self.said, *window)
        return self.keys[key, window]

    def arrive(self, records):
        """A bundle: of each its key, its window, the record or None, and its Beam timestamp."""
        together = {}
        for key, window, record, at in records:
            if record is None:  # it cannot be read
                self.said.invalid.append(key)
            elif self.watermark <= window[1]:  # else Beam drops it
                together.setdefault((key, window), []).append((record, at))
        for (key, window), pairs in together.items():
            self.key(key, window).arrive(pairs, self.model)

    def advance(self, watermark):
        """The watermark moves."""
        self.watermark = watermark
        for (key, window), one in list(self.keys.items()):
            if window[1] < watermark:
                one.finish(self.model)
                del self.keys[key, window]
            else:
                one.advance(watermark, self.model)

    def finish(self):
        """End the input."""
        for one in self.keys.values():
            one.finish(self.model)
