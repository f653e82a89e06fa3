"""The rules of `Predict`, one key and one record at a time: what a stream must give, bit for bit.

Only the arithmetic of one step is the library's: `Model.step`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.rows import EndedSequence, LateRecord, Prediction, SequenceGap

SECOND, MILLISECOND = 1_000_000, 1000


class Record(NamedTuple):
    """A record of one key. Equal ones are the same record; they sort as they are stepped."""

    time: int  # in microseconds
    number: int
    goes_on: bool  # it has no start mark
    ends: bool
    inputs: bytes  # float64; every NaN is the same

    @classmethod
    def of(cls, row, columns):
        """The record in a dict, whose time is a number of seconds."""
        values = [math.nan if row[name] is None else row[name] for name in columns.inputs]
        return cls(
            round(row[columns.time] * SECOND),
            row[columns.sequence] if columns.sequence else 0,
            not (columns.start and row[columns.start]),
            bool(columns.end and row[columns.end]),
            np.array([math.nan if v != v else v + 0.0 for v in values], "<f8").tobytes(),
        )

    @property
    def numbers(self):
        return np.frombuffer(self.inputs, "<f8")


class Rules(NamedTuple):
    """What `Predict` is told; times in microseconds."""

    order: str
    wait: int
    grid: int
    idle_after: int | None
    policy: str
    replay: int  # how many of the last inputs are kept for it
    emit: str

    def due(self, time, at):
        """When the watermark has passed a time, and the Beam timestamp with which it came."""
        on_grid = ((time + self.wait) // self.grid + 1) * self.grid
        return on_grid if at == -math.inf else max(on_grid, -whole(-at))

    def place(self, record):
        return record.number if self.order == "sequence" else record.time


class Open(NamedTuple):
    """A sequence that goes on."""

    model: Any
    values: Any
    steps: int
    first: int
    latest: int
    last: Record
    outputs: Any
    kept: tuple


class ModelChangedError(Exception):
    """A sequence would go on with another model, and the policy is "error"."""


class Said:
    """What came out."""

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
        self.open = None
        self.reached = None  # the last record that was stepped
        self.latest = None  # the latest time of those that were
        self.turn = -math.inf  # when the last one had its turn
        self.waiting = []

    def start_from(self, sequence):
        """A sequence that comes from elsewhere, unless there is one here."""
        if self.reached is None:
            self.open, self.reached, self.latest = sequence, sequence.last, sequence.latest

    def arrive(self, records, newest):
        """Records with their Beam timestamps come together."""
        rules, passed = self.rules, self.passed
        if rules.order == "arrival":
            for record, at in records:
                self.step(record, at, newest)
            return
        for record, at in records:
            if passed is not None and rules.place(record) <= passed:
                self.late(record)
            else:
                self.waiting.append((record, min(rules.due(record.time, at), whole(self.closes))))
        if rules.order == "sequence" and passed is not None:
            self.take(passed, newest)

    def advance(self, watermark, newest):
        """The watermark is here: all that is to be done until then, in its order."""
        while (now := min([self.idle_at(), *(due for _, due in self.waiting)])) <= watermark:
            due = [self.rules.place(record) for record, due in self.waiting if due <= now]
            if due:
                self.take(max(due), newest)
            if self.idle_at() <= now:
                self.close("idle")
                self.reached, self.latest, self.turn = None, None, -math.inf

    def finish(self, newest):
        """The window is closed."""
        self.advance(self.closes, newest)
        self.close("window")

    @property
    def passed(self):
        """The place that the key has passed."""
        if self.reached is None:
            return None
        return self.reached.number if self.rules.order == "sequence" else self.latest

    def idle_at(self):
        """When the sequence ends if no record comes; never while one that belongs to it waits."""
        idle_after = self.rules.idle_after
        if idle_after is None or self.reached is None:
            return math.inf
        if any(not self.is_idle(record) for record, _ in self.waiting):
            return math.inf
        at = self.rules.due(self.latest + idle_after, self.turn + idle_after)
        return at if at <= self.end else math.inf

    def is_idle(self, record):
        """Whether a record comes too late to belong to the sequence that goes on."""
        idle_after = self.rules.idle_after
        return idle_after is not None and record.time - self.latest > idle_after

    def in_order(self):
        """The records that wait, each once, and when each is due."""
        due = {}
        for record, at in self.waiting:
            due[record] = min(at, due.get(record, at))
        return sorted(due.items(), key=lambda pair: (self.rules.place(pair[0]), pair))

    def take(self, until, newest):
        """Step what waits up to a place, and the numbers that follow on it."""
        rules, passed = self.rules, self.passed
        for record, due in self.in_order():
            place = rules.place(record)
            if place > until and not (rules.order == "sequence" and place == until + 1):
                break
            until = max(place, until)
            self.waiting = [pair for pair in self.waiting if pair[0] != record]
            if passed is not None and place <= passed:
                self.late(record)
                continue
            before, idle = self.reached, self.reached is not None and self.is_idle(record)
            if not self.step(record, due, newest) or rules.order != "sequence":
                continue
            if before is not None and not idle and place > before.number + 1:
                gap = SequenceGap(self.key, record.time, before.number + 1, place - 1)
                self.said.gaps.append(gap)
            passed = place  # of records of one number the first counts

    def step(self, record, due, newest):
        """One record has its turn. False if it cannot be stepped: then nothing happened."""
        sequence, reason = self.open, None
        model = newest.of(self.key)
        if sequence and (self.is_idle(record) or not record.goes_on):
            reason = "idle" if self.is_idle(record) else "start"
        elif sequence and sequence.model != model:
            if self.rules.policy == "error":
                raise ModelChangedError
            if self.rules.policy == "keep":
                model = sequence.model
            elif self.rules.policy == "reset" or model is None:
                reason = "model"
            else:
                sequence = self.replayed(sequence, model)
                reason = None if sequence else "model"
        if model is None and reason == "model":  # the key has lost its model
            self.close("model")
        goes_on = sequence is not None and reason is None
        stepped = None
        if model is not None:
            before = sequence.values if goes_on else model.initial_state()
            stepped = one_step(model, self.key, before, record.numbers)
        if stepped is None:
            self.said.invalid.append(self.key)
            return False
        if reason is not None:
            self.close(reason)
        steps, first, kept = (sequence.steps, sequence.first, sequence.kept) if goes_on else (
            0, record.time, ())
        kept = (*kept, record.inputs)[-self.rules.replay :] if self.rules.replay else ()
        self.latest = record.time if self.latest is None else max(self.latest, record.time)
        self.open = Open(model, stepped[0], steps + 1, first, self.latest, record, stepped[1], kept)
        self.reached, self.turn = record, self.rules.due(record.time, due)
        if self.rules.emit == "every":
            self.said.predictions.append(self.prediction(self.open, record.time))
        if record.ends:
            self.close("end")
        return True

    def replayed(self, sequence, model):
        """A sequence that another model goes on with, from its last inputs; None without any."""
        values, outputs = model.initial_state(), None
        for inputs in sequence.kept:
            stepped = one_step(model, self.key, values, np.frombuffer(inputs, "<f8"))
            values, outputs = stepped or (values, outputs)
        if outputs is None:
            return None
        return sequence._replace(model=model, values=values, outputs=outputs)

    def close(self, reason):
        """The sequence ends, if there is one."""
        sequence, self.open = self.open, None
        if sequence is None:
            return
        if self.rules.emit == "last":
            self.said.predictions.append(self.prediction(sequence, sequence.latest))
        model, outputs = sequence.model, sequence.outputs.tolist()
        span = self.key, sequence.steps, sequence.first, sequence.latest, outputs
        state = sequence.values[0].tobytes()
        history = [b"".join(sequence.kept)] * ("history" in EndedSequence._fields)
        self.said.ended.append(
            EndedSequence(
                *span, reason, model.digest, state, sequence.last.number, model.kernel, *history
            )
        )

    def prediction(self, sequence, time):
        model, state = sequence.model, sequence.values[0].tobytes()
        facts = self.key, time, sequence.steps, sequence.outputs.tolist(), model.digest, state
        return Prediction(*facts, sequence.last.number, model.kernel)

    def late(self, record):
        behind = self.latest - record.time
        row = self.key, record.time, behind, record.numbers.tolist(), record.number
        self.said.late.append(LateRecord(*row))


def one_step(model, key, values, numbers):
    """The hidden state and the outputs after a record; None if they leave the range of numbers."""
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
