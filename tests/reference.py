"""The rules of `Predict`, one key and one record at a time: what a stream must give, bit for bit.

Only the arithmetic of one step is the library's: `Model.step`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.rows import EndedSequence, InvalidRecord, LateRecord, Prediction, SequenceGap

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
    replay: int
    emit: str

    def due(self, time):
        """When the watermark has passed a time."""
        return ((time + self.wait) // self.grid + 1) * self.grid

    def place(self, record):
        return record.number if self.order == "sequence" else record.time


class Open(NamedTuple):
    """A sequence that goes on."""

    model: Any
    values: Any
    steps: int
    first: int
    last: Record
    outputs: Any
    kept: tuple


class ModelChangedError(Exception):
    """A sequence would go on with another model, and the policy is "error"."""


class Said:
    """What came out."""

    def __init__(self):
        self.predictions, self.late, self.invalid, self.ended, self.gaps = [], [], [], [], []


class Key:
    """One key in one window.

    Args:
        key: Its name.
        rules: What `Predict` is told.
        said: Takes what comes out.
        end: The last moment of the window, in microseconds.
    """

    def __init__(self, key, rules, said, end):
        self.key, self.rules, self.said, self.end = key, rules, said, end
        self.open = None
        self.reached = None  # the last record that was stepped
        self.waiting = []

    def start_from(self, sequence):
        """A sequence that comes from elsewhere, unless there is one here."""
        if self.reached is None:
            self.open, self.reached = sequence, sequence.last

    def arrive(self, records, newest):
        """Records with their Beam timestamps come together."""
        rules, reached = self.rules, self.reached
        if rules.order == "arrival":
            for record, _ in records:
                self.step(record, newest)
            return
        for record, at in records:
            if reached is not None and rules.place(record) <= rules.place(reached):
                self.late(record)
            else:
                due = max(rules.due(record.time), -(-at // MILLISECOND) * MILLISECOND)
                self.waiting.append((record, min(due, self.end // MILLISECOND * MILLISECOND)))
        if rules.order == "sequence" and reached is not None:
            self.take(reached.number, newest)

    def advance(self, watermark, newest):
        """The watermark is here."""
        rules = self.rules
        due = [rules.place(record) for record, due in self.waiting if due <= watermark]
        if due:
            self.take(max(due), newest)
        if self.reached is not None and self.idle_at() <= watermark:
            self.close("idle")
            self.reached = None

    def finish(self, newest):
        """The window is at its end."""
        self.advance(self.end, newest)
        self.close("window")

    def idle_at(self):
        """When a sequence is idle, if no record comes."""
        if self.rules.idle_after is None:
            return math.inf
        return self.rules.due(self.reached.time + self.rules.idle_after)

    def is_idle(self, before, record):
        """Whether a record comes too late to belong to the sequence of the one before."""
        idle_after = self.rules.idle_after
        return idle_after is not None and record.time - before.time > idle_after

    def take(self, until, newest):
        """Step what waits up to a place, and the numbers that follow on it."""
        rules = self.rules
        ready = sorted({record for record, _ in self.waiting}, key=lambda r: (rules.place(r), r))
        passed = None if self.reached is None else rules.place(self.reached)
        for record in ready:
            place = rules.place(record)
            if place > until and not (rules.order == "sequence" and place == until + 1):
                break
            until = max(place, until)
            self.waiting = [pair for pair in self.waiting if pair[0] != record]
            before = self.reached
            if passed is not None and place <= passed:
                self.late(record)
                continue
            follows = before is not None and not self.is_idle(before, record)
            if rules.order == "sequence" and follows and place > before.number + 1:
                gap = SequenceGap(self.key, record.time, before.number + 1, place - 1)
                self.said.gaps.append(gap)
            self.step(record, newest)
            if rules.order == "sequence" and self.reached is not None:
                passed = self.reached.number  # of records of one number the first counts

    def step(self, record, newest):
        """One record has its turn."""
        ended, sequence = [], self.open
        model = newest.of(self.key)

        def close(reason):
            nonlocal sequence
            ended.append((sequence, reason))
            sequence = None

        if sequence and self.is_idle(sequence.last, record):
            close("idle")
        if sequence and sequence.model != model:
            if self.rules.policy == "keep":
                model = sequence.model
            elif self.rules.policy == "reset":
                close("model")
            elif self.rules.policy == "error":
                raise ModelChangedError
            else:
                sequence = self.replayed(sequence, model)
        if sequence and not record.goes_on:
            close("start")
            model = newest.of(self.key)
        if model is None:
            self.said.invalid.append(self.key)
            return
        before = sequence.values if sequence else model.initial_state()
        stepped = one_step(model, self.key, before, record.numbers)
        if stepped is None:  # as if it had never been sent
            self.said.invalid.append(self.key)
            return
        for each, reason in ended:
            self.say_end(each, reason)
        steps, first, kept = 1, record.time, ()
        if sequence:
            steps, first, kept = sequence.steps + 1, sequence.first, sequence.kept
        kept = (*kept, record.inputs)[-self.rules.replay :] if self.rules.replay else ()
        self.open = Open(model, stepped[0], steps, first, record, stepped[1], kept)
        self.reached = record
        if self.rules.emit == "every":
            self.said.predictions.append(self.prediction(self.open))
        if record.ends:
            self.close("end")

    def replayed(self, sequence, model):
        """A sequence that another model goes on with, from its last inputs."""
        values, outputs = model.initial_state(), np.zeros(model.outputs)
        for inputs in sequence.kept:
            stepped = one_step(model, self.key, values, np.frombuffer(inputs, "<f8"))
            values, outputs = stepped or (values, outputs)
        return sequence._replace(model=model, values=values, outputs=outputs)

    def close(self, reason):
        """The sequence ends, if there is one."""
        if self.open is not None:
            self.say_end(self.open, reason)
        self.open = None

    def prediction(self, sequence):
        last, model = sequence.last, sequence.model
        state = sequence.values[0].tobytes()
        outputs = sequence.outputs.tolist()
        facts = self.key, last.time, sequence.steps, outputs, model.digest, state, last.number
        return Prediction(*facts, model.kernel)

    def say_end(self, sequence, reason):
        if self.rules.emit == "last":
            self.said.predictions.append(self.prediction(sequence))
        last, model = sequence.last, sequence.model
        span = self.key, sequence.steps, sequence.first, last.time, sequence.outputs.tolist()
        state = sequence.values[0].tobytes()
        self.said.ended.append(
            EndedSequence(*span, reason, model.digest, state, last.number, model.kernel)
        )

    def late(self, record):
        behind = self.reached.time - record.time
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
