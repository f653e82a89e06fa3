"""A runner in memory for tests of order, which runs a stream in milliseconds.

It runs the graph that a transform makes, and keeps what Beam says of state and time:

- a state cell holds bytes, of one key and window; a bag has no order;
- an event timer has one time, which setting it again replaces, to the millisecond; it fires when
  the watermark has passed it, the earliest first; what it gives is not behind that time;
- an element whose window has ended, and its allowed lateness passed, is dropped, and the state of
  that window is removed; no timer may be set for later;
- what a bundle wrote is kept when the bundle is done, or not at all;
- a bundle may run on another worker than the one before, and a worker may be a new one: then all
  that its memory held is gone.
"""

import inspect
from collections import defaultdict
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms import core
from apache_beam.transforms.userstate import BagStateSpec, StateSpec, TimerSpec
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils import shared
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.streaming import shard_dofn as sharding

END_OF_TIME = int(MAX_TIMESTAMP.micros)
GLOBAL = (GlobalWindow(),)


@cache
def view(cls):
    return PipelineOptions().view_as(cls)


class Options(PipelineOptions):
    """Options of which each view is made once: Beam asks for hundreds while it builds a graph."""

    def view_as(self, cls):
        return view(cls)


class Graph:
    """The steps that a transform makes, in their order.

    Args:
        build: Makes the transform's outputs, a named tuple of collections, of the sources.
        sources: How many collections go in.
    """

    def __init__(self, build, sources=1):
        pipeline = beam.Pipeline(runner="FnApiRunner", options=Options())
        roots = [pipeline | f"Source{i}" >> beam.Impulse() for i in range(sources)]
        outputs = build(pipeline, *roots)
        self.sources = roots
        self.outputs = {collection: name for name, collection in outputs._asdict().items()}
        self.steps = []
        self.inputs = {}
        graph = self

        class Visitor(PipelineVisitor):
            def visit_transform(self, applied):
                transform = applied.transform
                if isinstance(transform, beam.ParDo):
                    assert not applied.side_inputs, "this runner knows no side inputs"
                    parts = transform.fn, transform.args, transform.kwargs
                    graph.add(applied, pickler.dumps(parts))
                elif isinstance(transform, beam.Flatten):
                    graph.add(applied, None)
                else:
                    assert isinstance(transform, beam.Impulse), f"no {transform} in this runner"

        pipeline.visit(Visitor())

    def add(self, applied, step):
        number = len(self.steps)
        self.steps.append((step, applied.outputs))
        for collection in applied.inputs:
            self.inputs.setdefault(collection, []).append(number)


class Step:
    """A DoFn and the arguments of its methods."""

    def __init__(self, fn, args, kwargs):
        self.fn, self.args, self.kwargs = fn, args, kwargs
        self.asked = asked_of(type(self.fn).process)
        self.stateful = any(isinstance(what, StateSpec) for what in self.asked.values())


@cache
def asked_of(method):
    """What Beam's parameters of a method ask for, by their names."""
    asked = {}
    for name, parameter in inspect.signature(method).parameters.items():
        value = parameter.default
        if isinstance(value, core._StateDoFnParam):
            asked[name] = value.state_spec
        elif isinstance(value, core._TimerDoFnParam):
            asked[name] = value.timer_spec
        elif isinstance(value, core._DoFnParam):
            asked[name] = value.param_id
    return asked


class Worker:
    """A process with its own DoFns and caches."""

    def __init__(self, graph):
        self._shared = shared._SharedMap()
        self._remembered = sharding.Remembered()
        with self.at_work():
            self.steps = [step and Step(*pickler.loads(step)) for step, _ in graph.steps]
            for step in self.steps:
                if step is not None:
                    step.fn.setup()

    @contextmanager
    def at_work(self):
        before = shared._shared_map, sharding.REMEMBERED
        shared._shared_map, sharding.REMEMBERED = self._shared, self._remembered
        try:
            yield
        finally:
            shared._shared_map, sharding.REMEMBERED = before


class Cell:
    """A bag or a value; `bag.add` and `value.write` take bytes."""

    def __init__(self, cells, at, chance, limit):
        self._cells, self._at, self._chance = cells, at, chance

    def read(self):
        held = self._cells.get(self._at, ())
        if isinstance(self._at[1], BagStateSpec):
            return iter(self._chance.sample(held, len(held)))
        return held[0] if held else None

    def add(self, data):
        assert isinstance(data, bytes)
        self._cells[self._at] = (*self._cells.get(self._at, ()), data)

    def write(self, data):
        assert isinstance(data, bytes)
        self._cells[self._at] = (data,)

    def clear(self):
        self._cells.pop(self._at, None)


class Timer:
    """An event timer."""

    def __init__(self, cells, at, chance, limit):
        self._timers, self._at, self._limit = cells, at, limit

    def set(self, time):
        micros = int(time.micros) // 1000 * 1000
        assert micros <= self._limit, "a timer is set for a time when its window is gone"
        self._timers[self._at] = micros

    def clear(self):
        self._timers.pop(self._at, None)


class Runner:
    """Runs a graph; `outputs` has a list for each output collection.

    Args:
        graph: The steps.
        chance: Decides what Beam leaves open: the order of bags, of elements of several keys and of
            timers of one time.
        workers: How many there are.
        lateness: The allowed lateness, in microseconds.
        watermark: Where the watermark is at first, in microseconds.
    """

    def __init__(
        self, graph, chance, *, workers=1, lateness=0, watermark=int(MIN_TIMESTAMP.micros)
    ):
        self._graph, self._chance, self._lateness = graph, chance, lateness
        self._workers = [Worker(graph) for _ in range(workers)]
        self._cells, self._timers = {}, {}
        self.watermark = watermark
        self.dropped = []
        self.outputs = {name: [] for name in graph.outputs.values()}
        self.stamped = {name: [] for name in graph.outputs.values()}

    def restart(self):
        """One of the workers is another one from now on."""
        self._workers[self._chance.randrange(len(self._workers))] = Worker(self._graph)

    def bundle(self, elements, source=0, *, crash=False):
        """Elements come together: values with their Beam timestamps, in microseconds.

        With a crash, they are processed once without anything being kept, and then again.
        """
        values = [WindowedValue(value, Timestamp(micros=at), GLOBAL) for value, at in elements]
        bundle = [(self._graph.sources[source], value) for value in values]
        if crash:
            self._attempt(bundle=bundle)
            self.restart()
        self._commit(self._attempt(bundle=bundle))

    def advance(self, to, *, together=False, crash=False):
        """Move the watermark, and fire the timers that it passes.

        Args:
            to: Where to, in microseconds.
            together: As in a batch: timers of several times fire in any order.
            crash: The first bundle of timers is tried twice.
        """
        self.watermark = to
        while due := [at for at, time in self._timers.items() if time <= to]:
            first = min(map(self._timers.get, due))
            if not together:
                due = [at for at in due if self._timers[at] == first]
            some = self._chance.sample(sorted(due, key=repr), self._chance.randint(1, len(due)))
            if crash:
                self._attempt(timers=some)
                self.restart()
                crash = False
            self._commit(self._attempt(timers=some))
        gone = [at for at in self._cells if self._expired(at[3])]
        for at in gone:
            del self._cells[at]

    def end(self, **more):
        """End the input."""
        self.advance(END_OF_TIME, **more)
        assert not self._timers

    def _limit(self, window):
        return min(int(window.max_timestamp().micros) + self._lateness, END_OF_TIME)

    def _expired(self, window):
        return self._limit(window) < self.watermark

    def _commit(self, attempt):
        self._cells, self._timers = attempt.cells, attempt.timers
        self.dropped += attempt.dropped
        for name, values in attempt.outputs.items():
            self.outputs[name] += [value.value for value in values]
            self.stamped[name] += [(value.value, value.timestamp.micros) for value in values]

    def _attempt(self, bundle=(), timers=()):
        """A bundle of elements or timers, on one of the workers."""
        worker = self._chance.choice(self._workers)
        attempt = SimpleNamespace(
            cells=dict(self._cells),
            timers=dict(self._timers),
            hold=min(self._timers.values(), default=self.watermark),
            dropped=[],
            outputs=defaultdict(list),
            waiting=defaultdict(list),
            steps=worker.steps,
        )
        with worker.at_work():
            for step in worker.steps:
                if step is not None:
                    step.fn.start_bundle()
            for at in timers:
                self._fire(attempt, at)
            for collection, value in bundle:
                self._give(attempt, collection, value)
            for number, step in enumerate(worker.steps):
                for value in self._in_any_order(attempt.waiting.pop(number, []), step):
                    self._process(attempt, number, value)
                if step is not None:
                    made = step.fn.finish_bundle()
                    self._take(attempt, number, made or (), None)
        return attempt

    def _in_any_order(self, values, step):
        """Elements of several keys have no order among them; those of a key keep theirs."""
        if step is None or not step.stateful:
            return values
        keys = [value.value[0] for value in values]
        shuffled = self._chance.sample(keys, len(keys))
        by_key = defaultdict(list)
        for value in values:
            by_key[value.value[0]].append(value)
        return [by_key[key].pop(0) for key in shuffled]

    def _give(self, attempt, collection, value):
        name = self._graph.outputs.get(collection)
        if name is not None:
            attempt.outputs[name].append(value)
        for number in self._graph.inputs.get(collection, ()):
            attempt.waiting[number].append(value)

    def _process(self, attempt, number, value):
        step = attempt.steps[number]
        if step is None:  # of Flatten
            self._give(attempt, self._graph.steps[number][1][None], value)
            return
        for window in value.windows:
            one = value.with_value(value.value)
            one.windows = (window,)
            if step.stateful and self._expired(window):
                attempt.dropped.append(one)
                continue
            asked = self._asked(attempt, number, step.asked, window, value.timestamp, one)
            made = step.fn.process(value.value, *step.args, **step.kwargs, **asked)
            self._take(attempt, number, made or (), one)

    def _fire(self, attempt, at):
        number, spec, key, window = at
        if attempt.timers.get(at) != self._timers[at]:
            return  # what fired before it has set it for another time, or cleared it
        time = Timestamp(micros=attempt.timers.pop(at))
        callback = spec._attached_callback
        step = attempt.steps[number]
        one = WindowedValue((key, None), time, (window,))
        asked = self._asked(attempt, number, asked_of(callback), window, time, one)
        self._take(attempt, number, callback(step.fn, **asked) or (), one, in_turn=True)

    def _asked(self, attempt, number, asked, window, time, value):
        """The arguments of a method."""
        arguments = {}
        for name, what in asked.items():
            if isinstance(what, (StateSpec, TimerSpec)):
                at = number, what, value.value[0], window
                cells = attempt.cells if isinstance(what, StateSpec) else attempt.timers
                kind = Cell if isinstance(what, StateSpec) else Timer
                arguments[name] = kind(cells, at, self._chance, self._limit(window))
            else:
                arguments[name] = {
                    "TimestampParam": time,
                    "WindowParam": window,
                    "KeyParam": value.value[0] if isinstance(value.value, tuple) else None,
                    "WindowedValueParam": value,
                }[what]
        return arguments

    def _take(self, attempt, number, made, cause, *, in_turn=False):
        """What a step gave, on its outputs."""
        outputs = self._graph.steps[number][1]
        for one in made:
            tag, value = (one.tag, one.value) if isinstance(one, TaggedOutput) else (None, one)
            assert not isinstance(value, TimestampedValue), "Beam puts it into other windows"
            out = value if isinstance(value, WindowedValue) else cause.with_value(value)
            if in_turn:
                assert out.timestamp.micros >= attempt.hold, (
                    f"{out} is late downstream, at {attempt.hold}"
                )
            self._give(attempt, outputs[tag], out)
