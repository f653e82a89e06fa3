"""The same records give the same bits, however they arrive: `Predict` against a reference.

A case is records, and what `Predict` is told. A way is how they arrive: when, together with what,
as rows or Arrow batches, key by key or in shards, with crashes or without.
"""

import math
import os
import random
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_rnn import Columns, Network, Predict, Prediction
from beam_rnn import weights as weights_file
from beam_rnn.engine.exported_states import from_row, to_row
from beam_rnn.errors import StateError
from beam_rnn.records.field_values import is_missing
from beam_rnn.streaming import shard_dofn as sharding
from beam_rnn.transforms.predict import PredictOutputs
from tests.helpers.models import keyed_models, random_model
from tests.helpers.reference import (
    SECOND,
    Key,
    ModelChangedError,
    Record,
    Rules,
    Said,
    Stream,
    whole,
)
from tests.helpers.runner import END_OF_TIME, Graph, Runner
from tests.helpers.streams import START, predict_stream

EXAMPLES = int(os.environ.get("ARRIVALS", "200"))
NETWORKS = {"gru": Network("gru", hidden=3), "relu": Network("rnn", hidden=3, activation="relu")}
KEYS = "abc"
ENDLESS = END_OF_TIME, END_OF_TIME
LAST_TIME = 24
BEFORE = 30
"""So many seconds before the first record a sequence is, from elsewhere, to go on with."""


@cache
def models_of(kind, network, columns, kernel):
    """Two models that read the same records; each may be one for each key."""
    if kind == "one":
        made = [random_model(NETWORKS[network], columns, seed) for seed in (0, 1)]
    else:
        made = [
            keyed_models("ab", fallback=kind == "keyed", columns=columns, seed=seed)
            for seed in (10, 20)
        ]
    return [model.with_kernel(kernel) for model in made]


class Item(NamedTuple):
    """A record on its way: a row; its field "at" is its Beam timestamp in seconds."""

    row: dict

    @property
    def key(self):
        return self.row["id"]

    @property
    def at(self):
        return self.row["at"]


class States(NamedTuple):
    """Hidden states to start from, on their way."""

    sequences: dict


@dataclass(frozen=True)
class Case:
    """Records and the arguments of `Predict`."""

    start: int
    columns: Columns
    models: str
    network: str
    kernel: str
    order: str
    wait: int
    grid: float
    idle_after: int | None
    policy: str
    emit: str
    change: int | None  # the watermark at which the model changes
    items: list[Item]
    window: int | None  # how many seconds long; None for the global one
    lateness: int
    elsewhere: dict  # by key, the records that it had elsewhere, and which model stepped them

    @property
    def rules(self):
        return Rules(
            self.order,
            self.wait * SECOND,
            round(self.grid * SECOND),
            None if self.idle_after is None else self.idle_after * SECOND,
            self.policy,
            self.columns.start is not None,
            self.replay,
            self.emit,
        )

    @property
    def replay(self):
        return 2 if self.policy == "replay" else 0

    def made(self):
        return models_of(self.models, self.network, self.columns, self.kernel)

    def record(self, item):
        return Record.of(item.row, self.columns)

    def usable(self, item):
        """Whether it can be read."""
        here = (item.row[name] for name in self.columns.inputs)
        return self.columns.missing == "carry" or not any(map(is_missing, here))

    def window_of(self, item):
        """The last moment of its window, and when that is closed."""
        if self.window is None:
            return ENDLESS
        end = (item.at // self.window + 1) * self.window * SECOND - 1
        return end, end + self.lateness * SECOND

    def arriving(self, item):
        """As the reference takes it."""
        record = self.record(item) if self.usable(item) else None
        return item.key, self.window_of(item), record, item.at * SECOND

    def due(self, item):
        """Return the watermark in microseconds at which it is due at the latest."""
        due = self.rules.due(self.record(item).time, item.at * SECOND)
        return min(due, whole(self.window_of(item)[1]))

    def beside(self, item):
        """The items of its key and window."""
        window = self.window_of(item)
        return [one for one in self.items if (one.key, self.window_of(one)) == (item.key, window)]

    def pauses(self, item):
        """How many pauses there are before each record of its key and window, by number."""
        key = Key(item.key, self.rules, Said(), *self.window_of(item))
        for other in self.beside(item):
            record, due = self.record(other), self.due(other)
            key.waiting[record] = min(due, key.waiting.get(record, due))
        if self.order != "sequence":
            return dict.fromkeys(key.waiting, 0)
        return {record: n for record, (n, _) in key.pauses().items()}

    @property
    def rises(self):
        """Whether, by number, times and numbers rise from pause to pause, and all can be used."""
        if self.order != "sequence" or self.change is not None or self.elsewhere:
            return False
        for item in self.items:
            pauses = self.pauses(item)
            in_turn = sorted({(self.due(one), self.record(one)) for one in self.beside(item)})
            for (_, one), (_, other) in pairwise(in_turn):
                goes_on = pauses[one] == pauses[other]
                if one.time >= other.time or (goes_on and one.number >= other.number):
                    return False
        odd = any(item.row[name] in ODD for item in self.items for name in "xy")
        return not odd and all(map(self.usable, self.items))

    def deadline(self, item):
        """The watermark from which on it may be late, or may change what came out already."""
        pauses, rules, record = self.pauses(item), self.rules, self.record(item)
        stands = {each: (n, rules.place(each)) for each, n in pauses.items()}
        beside = [(stands[self.record(other)], self.due(other)) for other in self.beside(item)]
        latest = min(due for place, due in beside if place >= stands[record])
        by_time = rules.due(record.time, -math.inf)
        return latest if self.idle_after is None else min(latest, by_time)

    def sequences(self):
        """The sequences to start from, by key."""
        found = {}
        for key, (which, records) in self.elsewhere.items():
            before = Key(key, self.rules._replace(idle_after=None), Said(), *ENDLESS)
            for record in records:
                before.step(record, -math.inf, self.made()[which])
            if before.open is not None:
                found[key] = before.open
        return found


class Way(NamedTuple):
    """How records arrive: bundles of items, watermarks, and "model" where it changes."""

    kind: Any
    shards: int | None
    workers: int
    schemas: str
    slack: int  # so many bytes of a log are not worth being written anew
    events: list
    seed: int


VALUES = st.integers(-16, 16).map(lambda n: n / 8)
ODD = 3e38, -3e38, 1e300  # with them a step may overflow


@st.composite
def cases(draw):
    order = draw(st.sampled_from(["event_time", "event_time", "sequence", "arrival"]))
    marked, carried = draw(st.booleans()), draw(st.booleans())
    columns = Columns(
        key="id",
        time="t",
        inputs=["x", "y"],
        targets=["x"],
        sequence="n" if order == "sequence" or draw(st.booleans()) else None,
        start="first" if marked else None,
        end="last" if marked else None,
        missing="carry" if carried else "refuse",
    )
    models = draw(st.sampled_from(["one", "one", "keyed", "keyed alone"]))
    change = draw(st.sampled_from([None, None, 4, 9, 15]))
    policy = draw(st.sampled_from(["keep", "reset", "replay", "error"]))
    value = VALUES
    if draw(st.booleans()):
        value |= st.sampled_from(ODD)
    if carried or draw(st.integers(0, 3)) == 0:
        value |= st.sampled_from([None, math.nan])
    delays = draw(st.sampled_from([[0], [0, 0, 1, 7, 30], [0, 12]]))
    keys = draw(st.sampled_from(["a", "ab", KEYS]))
    rows = draw(st.lists(rows_of(keys, value, marked=marked), min_size=1, max_size=16))
    start = draw(st.sampled_from([1_500_000_000, -12]))  # some before 1970
    steps = (
        st.sampled_from([0, 1, 1, 1, 1, 2, 4])
        if order == "sequence"
        else st.sampled_from([0, 1, -1])
    )
    if order == "arrival" or (order == "sequence" and draw(st.booleans())):
        rows.sort(key=lambda row: row["t"])
    items, numbers = [], dict.fromkeys(KEYS, 0)
    for row in rows:
        numbers[row["id"]] += draw(steps)
        if order == "sequence" and row["first"]:
            if draw(st.booleans()):  # the numbers begin anew
                numbers[row["id"]] = draw(st.integers(0, 1))
            # What it begins is not known before it is stepped: so it can be stepped.
            row |= {name: 0.5 for name in "xy" if row[name] in ODD}
        time, number = start + row["t"], numbers[row["id"]]
        more = {"t": time, "at": time + draw(st.sampled_from(delays)), "n": number}
        items.append(Item({**row, **more}))
        if order == "event_time" and draw(st.integers(0, 3)) == 0:  # the same but for one field
            other = {"first": not row["first"]} if marked and draw(st.booleans()) else {}
            items.append(Item({**row, **more, "note": "another", **other}))
    elsewhere = {}
    wait = draw(st.sampled_from([0, 0, 2, 5]))
    window = draw(st.sampled_from([None, None, 8]))
    if order != "arrival" and window is None and draw(st.booleans()):
        which = st.integers(0, 1 if policy in ("reset", "error") else 0)
        for key in draw(st.sets(st.sampled_from(KEYS))):
            n = draw(st.integers(1, 3))
            elsewhere[key] = draw(which), [before(start - BEFORE + t, t - n) for t in range(n)]
    return Case(
        start=start,
        columns=columns,
        models=models,
        network=draw(st.sampled_from(list(NETWORKS))) if models == "one" else "gru",
        kernel="numpy",
        order=order,
        wait=wait,
        grid=draw(st.sampled_from([1, 0.5, 4])),
        idle_after=draw(st.sampled_from([None, None, 2, 6, 40])),
        policy=policy,
        emit=draw(st.sampled_from(["every", "every", "last"])),
        change=change,
        items=items,
        window=window,
        lateness=wait + draw(st.sampled_from([0, 3, 20])) if window else 0,
        elsewhere=elsewhere,
    )


def rows_of(keys, value, *, marked):
    return st.fixed_dictionaries(
        {
            "id": st.sampled_from(keys),
            "t": st.integers(0, LAST_TIME),
            "x": value,
            "y": value,
            "first": st.sampled_from([False, False, True]) if marked else st.none(),
            "last": st.sampled_from([False, False, None, True]) if marked else st.none(),
            "note": st.just("one"),
        }
    )


def before(time, number):
    """A record that a key had elsewhere."""
    return Record(time * SECOND, number, 1, np.array([time % 7, 0.5], "<f8").tobytes())


@st.composite
def ways(draw, case, *, late=False):
    """A way; all records are in time, or some may be late."""
    kind = draw(st.sampled_from([None, None, pa.Table, pa.RecordBatch]))
    if case.emit == "last":
        kind = None
    moves = draw(st.sets(st.integers(0, LAST_TIME + 12), max_size=6))
    if case.change is not None:
        moves.add(case.change)
    moves = [case.start + move for move in sorted(moves)]
    events = []
    for slot, items in enumerate(draw(arriving(case, moves, late=late))):
        if slot:
            events.append(moves[slot - 1])
            if moves[slot - 1] - case.start == case.change:
                events.append("model")
        together = draw(bundles(items if case.order == "arrival" else draw(st.permutations(items))))
        if case.elsewhere and (not slot or (late and draw(st.booleans()))):
            at = draw(st.integers(0, len(together)))
            together.insert(at, States(case.sequences()))
        events += together
    return Way(
        kind,
        draw(st.sampled_from([None, 1, 3] if kind is None else [1, 3])),
        draw(st.integers(1, 2)),
        draw(st.sampled_from(["alike", "differing"])),
        draw(st.sampled_from([0, sharding.SLACK])),
        events,
        draw(st.integers(0, 2**16)),
    )


@st.composite
def arriving(draw, case, moves, *, late):
    """The items, some of them several times, that come before each move of the watermark."""
    slots = [[] for _ in range(len(moves) + 1)]
    reached = dict.fromkeys(KEYS, 0)
    for item in case.items:
        copies = 1
        if case.order != "arrival" and case.usable(item):
            copies = draw(st.sampled_from([1, 1, 1, 2, 3]))
        for _ in range(copies):
            first = reached[item.key] if case.order == "arrival" else 0
            last = len(moves)
            if not late:
                last = sum(move * SECOND < case.deadline(item) for move in moves)
            slot = draw(st.integers(min(first, last), last))
            reached[item.key] = slot
            slots[slot].append(item)
    return slots


@st.composite
def bundles(draw, items):
    """Items, those together that come together."""
    cuts = draw(st.sets(st.integers(1, len(items) - 1), max_size=4)) if len(items) > 1 else []
    bounds = [0, *sorted(cuts), len(items)]
    return [list(items[a:b]) for a, b in pairwise(bounds) if a < b]


def simulated(case, way):
    """Return the expected results of a way; None for the error that the model changed."""
    model, following = case.made()
    stream = Stream(case.rules, model)
    try:
        for event in way.events:
            if event == "model":
                stream.model = following
            elif isinstance(event, States):
                for key, sequence in event.sequences.items():
                    stream.key(key, ENDLESS).start_from(sequence)
            elif isinstance(event, list):
                stream.arrive(map(case.arriving, event))
            else:
                stream.advance(event * SECOND)
        stream.finish()
    except ModelChangedError:
        return None
    return stream.said


class InWindows(beam.PTransform):
    """A transform in the windows of a case; what goes in has a type."""

    def __init__(self, case, kind, transform):
        super().__init__()
        self._case, self._kind, self._transform = case, kind, transform

    def expand(self, records):
        if self._case.window is not None:
            windows = FixedWindows(self._case.window)
            records |= beam.WindowInto(windows, allowed_lateness=self._case.lateness)
        records.element_type = self._kind or Any
        return records | self._transform


def predict(case, way, folder, states=None):
    """The transform."""
    transform = Predict(
        folder / ("w-1.arrow" if case.change is None else "w-*.arrow"),
        order=case.order,
        wait=case.wait,
        grid=case.grid,
        with_state=True,
        emit=case.emit,
        idle_after=case.idle_after,
        on_model_change=case.policy,
        replay=case.replay,
        watch=None if case.change is None else 0,
        kernel=case.kernel,
        shards=way.shards,
        states=states,
    )
    return InWindows(case, way.kind, transform)


def run(case, way, folder):
    """Return the results of `Predict` for a way; None for the error that the model changed."""
    old, new = (weights_file.to_bytes(model) for model in case.made())
    for path in folder.iterdir():
        path.unlink()
    (folder / "w-1.arrow").write_bytes(old)

    def build(_pipeline, records, states=None):
        if states is not None:
            states.element_type = tuple[str, bytes]
        return records | predict(case, way, folder, states)

    chance = random.Random(way.seed)
    graph = Graph(build, sources=2 if case.elsewhere else 1)
    lateness = case.lateness * SECOND
    runner = Runner(graph, chance, workers=way.workers, lateness=lateness)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sharding, "SLACK", way.slack)
            play(case, way, runner, chance, lambda: (folder / "w-2.arrow").write_bytes(new))
    except StateError as error:
        if "on_model_change" not in str(error):
            raise
        return None
    return what_was_said(case, way, runner.outputs)


def play(case, way, runner, chance, change_model):
    """Let all happen, with crashes and restarts in between."""
    for event in way.events:
        crash = chance.random() < 0.1
        if event == "model":
            change_model()
        elif isinstance(event, int):
            runner.advance(event * SECOND, crash=crash)
        else:
            elements, source = elements_of(event, case, way, chance)
            runner.bundle(elements, source, crash=crash)
        if chance.random() < 0.1:
            runner.restart()
    runner.end(together=chance.random() < 0.5)


def what_was_said(case, way, outputs):
    """The elements of the outputs of `Predict`, as the reference has them."""
    said = Said()
    said.predictions = outputs["predictions"]
    if way.kind is not None:
        rows = [pair for batch in outputs["predictions"] for pair in predicted(batch, case)]
        said.predictions = [row for row, _ in rows]
        said.notes = sorted((row.key, row.time, row.sequence, row.step, note) for row, note in rows)
    said.invalid = [letter.key for letter in outputs["invalid"]]
    said.ended, said.gaps, said.late = (outputs[name] for name in ("ended", "gaps", "late"))
    return said


def exported(case, key, sequence):
    """A sequence as `ImportStates` gives it."""
    said = Said()
    before = Key(key, case.rules, said, *ENDLESS)
    before.start_from(sequence)
    before.close("window")
    return from_row(to_row(said.ended[0]), "states")


def elements_of(event, case, way, chance):
    """A bundle, and its source: states, rows, or batches of them; and their Beam timestamps."""
    if isinstance(event, States):
        states = [exported(case, *pair) for pair in event.sequences.items()]
        return [(state, int(MIN_TIMESTAMP.micros)) for state in states], 1
    if way.kind is None:
        return [(item.row, item.at * SECOND) for item in event], 0
    return batches_of(event, case, way, chance), 0


def batches_of(items, case, way, chance):
    """Batches of one or more records, and their Beam timestamps."""
    elements = []
    of_all = other_schema(items, case, chance)
    while items:
        n = 1  # the records of a batch have one Beam timestamp
        while n < len(items) and items[n].at == items[0].at and chance.random() < 0.7:
            n += 1
        table = pa.Table.from_pylist([item.row for item in items[:n]], SCHEMA)
        if way.schemas == "differing":
            # By number, records that come together are taken together if they have one schema.
            by_number = case.order == "sequence"
            table = as_schema(table, of_all if by_number else other_schema(items[:n], case, chance))
        batch = table if way.kind is pa.Table else table.combine_chunks().to_batches()[0]
        elements.append((batch, items[0].at * SECOND))
        items = items[n:]
    return elements


SCHEMA = pa.schema(
    [("id", pa.string()), ("t", pa.int64()), ("x", pa.float64()), ("y", pa.float64()),
     ("n", pa.int64()), ("first", pa.bool_()), ("last", pa.bool_()), ("note", pa.string()),
     ("at", pa.int64())]
)  # fmt: skip


TEXTS = pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())
KINDS = {
    "id": TEXTS,
    "t": (pa.int64(), pa.timestamp("us"), pa.timestamp("ms", "UTC")),
    "n": (pa.int64(), pa.int32()),
    "first": (pa.bool_(), pa.int8()),
    "last": (pa.bool_(), pa.int8()),
    "note": TEXTS,
    "at": (pa.int64(), pa.int32()),
}


def other_schema(items, case, chance):
    """Columns of other types, and in another order, that can hold these records."""
    kinds = dict(KINDS)
    for name in ("x", "y"):
        values = [item.row[name] for item in items]
        kinds[name] = [pa.float64()]
        if all(is_missing(v) or (abs(v) < 1e38 and np.float32(v) == v) for v in values):
            kinds[name].append(pa.float32())
        if case.columns.missing == "carry" and all(v is None for v in values):
            kinds[name].append(pa.null())
    names = chance.sample(SCHEMA.names, len(SCHEMA.names))
    return pa.schema([(name, chance.choice(kinds[name])) for name in names])


def as_schema(table, schema):
    """The same records in other columns."""
    columns = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = table.column(name)
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("s", kind.tz))
        columns[name] = pa.nulls(len(column)) if kind == pa.null() else column.cast(kind)
    return pa.table(columns)


def predicted(batch, case):
    """The predictions in a batch, each with the note that its record came with."""
    for row in batch.to_pylist():
        time = row["t"]
        if isinstance(time, datetime):
            time = (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
        prediction = Prediction(
            row["id"],
            round(time * SECOND),
            row["prediction_step"],
            [row["x_prediction"]],
            row["prediction_model"],
            np.array(row["prediction_state"], np.float32).tobytes(),
            row["n"] if case.columns.sequence else 0,
            row["prediction_kernel"],
        )
        yield prediction, row["note"]


def plain(said):
    """Return the results in a comparable form."""
    if said is None:
        return None
    return {
        name: sorted(map(repr, getattr(said, name)))
        for name in ("predictions", "ended", "gaps", "invalid", "late")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


ANY = list(HealthCheck)  # a case is large, whatever Hypothesis thinks of that


@settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=ANY,
    derandomize=EXAMPLES <= 200,  # the same examples in every run of the suite; by hand others
)
@given(data=st.data())
def test_the_same_records_give_the_same_bits_however_they_arrive(data, folder):
    case = data.draw(cases())
    expected, notes = None, None
    for late in (False, data.draw(st.booleans())):
        way = data.draw(ways(case, late=late))
        found, said = run(case, way, folder), plain(simulated(case, way))
        assert plain(found) == said
        if late or not (case.order == "event_time" or case.rises):
            continue
        # Not only what the rules say of this way, but the same as of any other.
        if said is not None and case.order == "sequence":
            said.pop("late")  # a record that is sent again after its turn
        expected = expected or said
        assert said == expected
        if found is not None and found.notes is not None and way.schemas == "alike":
            notes = notes or found.notes
            assert found.notes == notes


@settings(deadline=None, max_examples=8, suppress_health_check=ANY)
@given(data=st.data())
def test_a_real_runner_says_the_same_as_the_one_in_memory(data, folder):
    case = replace(data.draw(cases()), change=None, elsewhere={})
    way = data.draw(ways(case))
    (folder / "w-1.arrow").write_bytes(weights_file.to_bytes(case.made()[0]))
    chance = random.Random(way.seed)
    events = []
    for event in way.events:
        if isinstance(event, list):
            elements, _ = elements_of(event, case, way, chance)
            events.append([element for element, _ in elements])
        else:
            events.append(event - START)
    time = "at" if way.kind is None else lambda batch: batch.column("at")[0].as_py()
    outputs = predict_stream(predict(case, way, folder), *events, time=time, kind=way.kind)
    found = what_was_said(
        case, way, {name: getattr(outputs, name) for name in PredictOutputs._fields}
    )
    assert plain(found) == plain(run(case, way, folder))
