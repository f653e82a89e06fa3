"""The rules of order: results depend only on the records of the key.

Each case is run in a batch and live, key by key and in shards.
"""

import random
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.window import GlobalWindow, TimestampedValue

from beam_rnn import Columns, Network, Predict, PredictAndLearn, Smooth
from beam_rnn.engine.exported_states import from_row, to_row, to_shard
from beam_rnn.engine.order import Order, check_numbered
from beam_rnn.engine.order_format import encode_imported
from beam_rnn.errors import ConfigurationError
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.models.state_format import KeyState
from beam_rnn.online import Untrained
from beam_rnn.streaming import shard_dofn as sharding
from beam_rnn.streaming.closed_windows import AT_THEIR_END
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.testing import oracle
from beam_rnn.transforms.predict import _pack
from tests.helpers.engines import Collect, predict
from tests.helpers.engines import run as run_pipeline
from tests.helpers.models import COLUMNS, random_model, saved
from tests.helpers.streams import START, predict_stream
from tests.streaming.test_streaming import SECOND, Forgetful, tick

MARKED = replace(COLUMNS, start="first", end="last")
NUMBERED = replace(COLUMNS, sequence="n", start="first", end="last")


@pytest.fixture(scope="module")
def model():
    return random_model(columns=NUMBERED)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("weights"))


def record(t, key="a", at=None, n=0, **more):
    """A record of a time, with the Beam timestamp `at`."""
    marks = {"first": False, "last": False}
    return {**tick(t, key), **marks, "n": n, "at": START + (t if at is None else at), **more}


def numbered(n, t=None, **more):
    return record(n if t is None else t, n=n, **more)


def in_batch(transform, events):
    """Run all records as a batch, shuffled."""
    records = [r for event in events if isinstance(event, list) for r in event]
    random.Random(0).shuffle(records)

    class Stamped(beam.PTransform):
        def expand(self, pcoll):
            stamped = pcoll | beam.Map(lambda r: TimestampedValue(r, r["at"]))
            return stamped | transform

    return predict(Stamped(), records)


def live(transform, events):
    return predict_stream(transform, *events, time="at")


RUNS = {"batch": in_batch, "live": live}


def steps(outputs, key="a"):
    """(time, step) of the predictions of a key, in order."""
    rows = [r for r in outputs.predictions if r.key == key]
    return sorted(((r.time // SECOND - START), r.step) for r in rows)


def ends(outputs, key="a"):
    return sorted((r.steps, r.reason) for r in outputs.ended if r.key == key)


IDLE = {
    "a record that waits, of a later Beam timestamp": (
        "event_time",
        [[record(5), record(9, at=1000)], 7, 20],
        [(5, 1), (9, 2)],
        [(2, "idle")],
    ),
    "a record that waits behind a gap": (
        "event_time",
        [[record(5), record(16, at=1000)], 7, 20],
        [(5, 1), (16, 1)],
        [(1, "idle"), (1, "idle")],
    ),
    "timers of other keys": (
        "event_time",
        [[record(5), record(0, "b")], 7, [record(14, at=14)], 20, [record(24, at=24)], 50],
        [(5, 1), (14, 2), (24, 3)],
        [(3, "idle")],
    ),
    "by arrival, Beam timestamps of another clock": (
        "arrival",
        [[record(5, at=1000), record(6, "b", at=6)], 20, [record(9, at=1001)]],
        [(5, 1), (9, 2)],
        [(2, "idle")],
    ),
    "by event time, Beam timestamps of another clock": (
        "event_time",
        [e for t in range(0, 30, 6) for e in ([record(t, at=1000 + t)], 1001 + t)],
        [(0, 1), (6, 2), (12, 3), (18, 4), (24, 5)],
        [(5, "idle")],
    ),
    "by arrival, a gap": (
        "arrival",
        [[record(5)], 6, [record(16)], 17],
        [(5, 1), (16, 1)],
        [(1, "idle"), (1, "idle")],
    ),
    "by number, a clock that went back": (
        "sequence",
        [[numbered(20)], 21, [numbered(21, t=-900, at=22)], 22, [numbered(22), numbered(23)], 24],
        [(-900, 2), (20, 1), (22, 3), (23, 4)],
        [(4, "idle")],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("case", IDLE)
def test_idleness_depends_on_the_records_of_the_sequence_only(case, run, weights):
    order, events, wanted, ended = IDLE[case]

    outputs = RUNS[run](Predict(weights, order=order, idle_after=10), events)

    assert steps(outputs) == wanted
    assert ends(outputs) == ended
    assert not outputs.late


def state_of(model, *, steps=7, last=3, history=()):
    """A state that another job left."""
    size = model.state_size
    place = steps, (START + last - steps) * SECOND, (START + last) * SECOND, last
    values = np.full(size, 0.25, np.float32)
    return KeyState(model.digest, model.kernel, *place, values, np.zeros(1), np.array(history))


class From(beam.PTransform):
    """`Predict` that starts from states."""

    def __init__(self, weights, states, **settings):
        super().__init__()
        self.weights, self.states, self.settings = weights, states, settings

    def expand(self, pcoll):
        pairs = [
            (key, state if isinstance(state, bytes) else encode_imported(state, LONG_AGO))
            for key, state in self.states.items()
        ]
        states = pcoll.pipeline | "States" >> beam.Create(pairs, reshuffle=False)
        return pcoll | Predict(self.weights, states=states, **self.settings)


@pytest.mark.usefixtures("each_way")
def test_an_imported_state_of_another_size_is_an_error_that_names_its_key(model, weights):
    state = state_of(model)
    other = state._replace(values=state.values[:-1])

    with pytest.raises(Exception, match=r"the state of key 'a' has .* export it again"):
        in_batch(From(weights, {"a": other}), [[record(5)]])


@pytest.mark.usefixtures("each_way")
def test_an_imported_state_knows_from_when_its_numbers_count(weights):
    """A record of the count before is late, as in the job from which the state came."""
    anew = [numbered(0, t=5, first=True), numbered(1, t=6)]
    before = live(
        Predict(weights, order="sequence", with_state=True),
        [[numbered(0), numbered(1)], 3, anew, 10],
    )
    (ended,) = (row for row in before.ended if row.reason == "window")
    assert ended.begun == (START + 5) * SECOND
    states = dict([from_row(to_row(ended), "states")])

    outputs = live(
        From(weights, states, order="sequence"), [[numbered(9, t=2)], 8, [numbered(2, t=9)], 20]
    )

    assert [row.sequence for row in outputs.late] == [9]
    assert steps(outputs) == [(9, 3)]
    assert not outputs.gaps


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("policy", ["error", "reset", "replay"])
def test_idleness_is_checked_before_the_model(policy, run, model, weights):
    """An imported state of another model is idle before anything is asked of the model."""
    other = random_model(columns=NUMBERED, seed=1)
    more = {"replay": 2} if policy == "replay" else {}
    transform = From(
        weights, {"a": state_of(other), "b": state_of(other)},
        idle_after=10, on_model_change=policy, **more,
    )  # fmt: skip

    outputs = RUNS[run](transform, [[record(30), record(31)], 35])

    assert steps(outputs) == [(30, 1), (31, 2)]
    assert ends(outputs) == [(2, "idle"), (7, "idle")]
    assert ends(outputs, "b") == [(7, "idle")]  # it is idle without a record
    assert {r.model for r in outputs.ended if r.steps == 7} == {other.digest}


def test_an_imported_state_becomes_idle_in_a_running_stream(each_way, model, weights):
    said = Collect()
    stamp = beam.Map(lambda r, t=beam.DoFn.TimestampParam: (r.key, float(t) - START))

    class Ended(beam.PTransform):
        def expand(self, pcoll):
            transform = From(weights, {"a": state_of(model)}, idle_after=10, shards=each_way)
            outputs = pcoll | transform
            _ = outputs.ended | stamp | said
            return outputs

    predict_stream(Ended(), 0, [record(1, "b")], 20, [record(100, "b")], 101, time="at")

    assert ("a", 13.5) in said.elements


@pytest.mark.usefixtures("each_way")
def test_an_imported_state_is_in_the_log(model, weights, monkeypatch):
    """A process that forgets its shards finds it."""
    monkeypatch.setattr(sharding, "REMEMBERED", Forgetful())

    outputs = in_batch(From(weights, {"a": state_of(model)}), [[record(5)]])

    assert steps(outputs) == [(5, 8)]


@pytest.mark.parametrize("shards", [None, 2])
def test_a_key_that_has_a_state_keeps_it(shards, model, weights):
    """A state that is imported when records of its key were stepped changes nothing."""
    transform = Predict(weights, order="arrival", shards=shards)

    class Late(beam.DoFn):
        def process(self, element):
            yield element
            state = "a", encode_imported(state_of(model), LONG_AGO)
            yield state if shards is None else to_shard(state, shards)
            yield element

    class Twice(beam.PTransform):
        """The steps of `Predict`, behind which the state comes."""

        def expand(self, pcoll):
            loader = ModelLoader(weights)
            packed = pcoll | beam.ParDo(
                _pack(loader, None, shards, with_state=False)
            ).with_output_types(tuple[str, bytes])
            both = packed | beam.ParDo(Late()).with_output_types(tuple[str, bytes])
            step = transform._step(loader, None, shards, AT_THEIR_END)
            outputs = both | beam.ParDo(step).with_outputs("late", "ended", main="predictions")
            _ = outputs.predictions | collected
            return outputs.predictions

    collected = Collect()
    run_pipeline(lambda p: p | beam.Create([record(1)], reshuffle=False) | Twice())

    assert [r.step for r in collected.elements] == [1, 2]


@pytest.mark.parametrize("run", RUNS)
def test_the_idle_timers_of_all_keys_of_a_shard_fire(run, weights):
    events = [[record(0, "a"), record(3, "b"), record(6, "c")], 7, [record(100, "d")], 101]

    outputs = RUNS[run](Predict(weights, shards=1, idle_after=10, grid=1), events)

    assert sorted((r.key, r.reason) for r in outputs.ended) == [(k, "idle") for k in "abcd"]


def test_a_key_becomes_idle_without_further_records_in_its_shard(weights):
    """The timer of the shard is set again for the next idle key."""
    events = [[record(0, "a"), record(3, "b")], 7, 20, [record(5, "a"), record(6, "b")], 30]

    outputs = live(Predict(weights, shards=1, idle_after=10, grid=1), events)

    assert [steps(outputs, key) for key in "ab"] == [[(0, 1), (5, 1)], [(3, 1), (6, 1)]]


def test_the_place_of_a_sequence_that_ended_is_in_the_log(weights, monkeypatch):
    """A log that is written anew, and read again, knows it: what is late stays late."""
    monkeypatch.setattr(sharding, "REMEMBERED", Forgetful())
    monkeypatch.setattr(sharding, "SLACK", 0)
    events = [[record(1), record(2, last=True)], 3, [record(3, "b")], 4, [record(5, "b")], 6]

    outputs = live(Predict(weights, shards=1), [*events, [record(2, x=0.5)], 9])

    assert steps(outputs) == [(1, 1), (2, 2)]
    assert [r.time for r in outputs.late] == [(START + 2) * SECOND]


BEYOND = 1e300
POISONED = [
    record(3, x=BEYOND, first=True),
    record(4, x=BEYOND, last=True),
    record(18, x=BEYOND),  # 13 after the last one that can be used, 9 before the next
]
GOOD = [record(t) for t in (1, 2, 5, 27, 28)]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
def test_an_overflowing_record_has_no_effect(run, model, weights):
    transform = Predict(weights, idle_after=20, with_state=True)

    mixed = RUNS[run](transform, [GOOD + POISONED])

    for of in (GOOD, GOOD + POISONED):
        wanted = oracle(model, of, idle_after=20, with_state=True)
        assert sorted(mixed.predictions) == sorted(wanted.predictions)
        assert sorted(mixed.ended) == sorted(wanted.ended)
    assert ends(mixed) == [(2, "idle"), (3, "idle")]
    assert len(mixed.invalid) == len(POISONED)


def smooth(tmp_path):
    network = Network("gru", hidden=3, bidirectional=True)
    return Smooth(saved(random_model(network, MARKED), tmp_path), lag=2, idle_after=20)


def learn(_):
    return PredictAndLearn(Untrained(Network("gru", hidden=2), MARKED), idle_after=20)


@pytest.mark.parametrize("transform_of", [smooth, learn])
def test_an_overflowing_record_does_not_affect_smoothing_and_learning(transform_of, tmp_path):
    mixed, alone = (predict(transform_of(tmp_path), of) for of in (GOOD + POISONED, GOOD))

    assert sorted(mixed.predictions) == sorted(alone.predictions)
    assert sorted(mixed.ended) == sorted(alone.ended)
    assert len(mixed.invalid) == len(POISONED)


RESTART = [
    *(numbered(n) for n in range(5)),
    numbered(0, t=10, first=True),
    numbered(1, t=11),
    numbered(2, t=20),
]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    "events",
    [
        [RESTART[:5], 6, RESTART[5:7], 13, RESTART[7:]],
        [RESTART[:5], 6, RESTART[6:7], RESTART[5:6], 13, RESTART[7:]],  # 1 before the mark
        [RESTART[3:], RESTART[:3]],
    ],
    ids=["in order", "the mark after the next number", "all at once"],
)
def test_sequence_numbers_may_restart_with_a_start_mark(events, run, model, weights):
    outputs = RUNS[run](Predict(weights, order="sequence"), events)

    wanted = oracle(model, RESTART, order="sequence")
    assert sorted(outputs.predictions) == sorted(wanted.predictions)
    assert sorted(outputs.ended) == sorted(wanted.ended)

    assert steps(outputs) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (10, 1), (11, 2), (20, 3)]
    assert ends(outputs) == [(3, "window"), (5, "start")]
    assert not outputs.late
    assert not outputs.gaps


@pytest.mark.usefixtures("each_way")
def test_a_record_from_before_a_restart_of_the_numbers_is_late(weights):
    """A record that is sent again keeps its position."""
    again = [RESTART[5], RESTART[0], RESTART[3], numbered(7, t=7)]

    outputs = live(Predict(weights, order="sequence"), [RESTART[:5], 6, RESTART[5:], 30, again, 60])

    assert len(outputs.predictions) == len(RESTART)
    assert sorted((r.sequence, r.time // SECOND - START) for r in outputs.late) == [
        (0, 0),
        (0, 10),
        (3, 3),
        (7, 7),
    ]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
def test_a_start_mark_of_an_unusable_record_starts_no_sequence(run, weights):
    poisoned = [*RESTART[:5], {**RESTART[5], "x": BEYOND}, RESTART[6]]

    outputs = RUNS[run](Predict(weights, order="sequence"), [poisoned])

    assert steps(outputs) == [(t, t + 1) for t in range(5)]
    assert len(outputs.invalid) == 1
    assert [r.sequence for r in outputs.late] == [1]


PAUSE = [numbered(5, t=0), numbered(3, t=20), numbered(4, t=21)]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("marked", [True, False], ids=["start marks", "no marks"])
@pytest.mark.parametrize(
    "events",
    [
        [PAUSE[:1], 15, PAUSE[1:]],
        [PAUSE[:1], 5, PAUSE[1:]],
        [PAUSE[:1], 5, PAUSE[1:2], 15, PAUSE[2:]],
        [PAUSE[1:], PAUSE[:1]],
    ],
    ids=["after the idle end", "before the idle end", "on both sides of it", "all at once"],
)
def test_sequence_numbers_may_restart_after_a_pause(events, marked, run, weights, tmp_path):
    if not marked:
        weights = saved(random_model(columns=replace(COLUMNS, sequence="n")), tmp_path)

    outputs = RUNS[run](Predict(weights, order="sequence", idle_after=10), [*events, 60])

    assert steps(outputs) == [(0, 1), (20, 1), (21, 2)]
    assert ends(outputs) == [(1, "idle"), (2, "idle")]
    assert not outputs.late
    assert not outputs.gaps


@pytest.mark.usefixtures("each_way")
def test_a_waiting_lower_number_without_a_pause_is_late(weights):
    """It keeps the sequence going until its turn, which its Beam timestamp may put off."""
    events = [[numbered(5, t=0)], 3, [numbered(3, t=8, at=40)], 30, [numbered(6, t=50)], 90]

    outputs = live(Predict(weights, order="sequence", idle_after=10), events)

    assert [r.sequence for r in outputs.late] == [3]
    assert steps(outputs) == [(0, 1), (50, 1)]


CORRUPT = numbered(4_000_000_000, t=4)
JUMPS = [*(numbered(n) for n in range(4)), CORRUPT, *(numbered(n, t=n + 1) for n in range(4, 9))]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    "events", [[JUMPS[:4], 3, [CORRUPT], 5, JUMPS[5:7], 8, JUMPS[7:]], [JUMPS]]
)
def test_a_jumping_number_is_a_dead_letter_and_does_not_block_others(events, run, weights):
    outputs = RUNS[run](Predict(weights, order="sequence", max_jump=100), [*events, 30])

    assert [r.sequence for r in sorted(outputs.predictions, key=lambda r: r.step)] == [*range(9)]
    (letter,) = outputs.invalid
    assert letter.reason.startswith("its number 4000000000 is 39999999")
    assert letter.reason.endswith("more than max_jump=100")
    assert not outputs.late
    assert not outputs.gaps


@pytest.mark.usefixtures("each_way")
def test_a_key_continues_after_idling_through_a_gap_above_max_jump(weights):
    transform = Predict(weights, order="sequence", max_jump=100, idle_after=10)
    events = [[numbered(0), numbered(1)], 3, [numbered(500, t=5)], 30, [numbered(501, t=31)], 60]

    outputs = live(transform, events)

    assert steps(outputs) == [(0, 1), (1, 2), (31, 1)]
    assert len(outputs.invalid) == 1


def test_max_jump_needs_a_way_on_after_a_real_gap():
    order = Order("sequence", 0, 1000, max_jump=100)
    columns = Columns(key="id", inputs=["x"], sequence="n")

    with pytest.raises(ConfigurationError, match=r"max_jump=100 refuses .* say idle_after= too"):
        check_numbered(order, columns)
    check_numbered(replace(order, idle_after=1), columns)
    check_numbered(order, replace(columns, start="first"))


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
def test_an_overflowing_record_ends_no_sequence(run, weights):
    """One behind it that waits, and belongs to the sequence, keeps that going."""
    waiting = [numbered(2, t=28, at=48, x=BEYOND), numbered(5, t=18, at=38)]
    events = [[numbered(0)], 5, waiting, 30, 60]

    outputs = RUNS[run](Predict(weights, order="sequence", idle_after=20), events)

    assert steps(outputs) == [(0, 1), (18, 2)]
    assert ends(outputs) == [(2, "idle")]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("run", RUNS)
def test_a_number_that_could_not_be_stepped_is_missing(run, weights):
    events = [[numbered(0), numbered(1)], 2, [numbered(2, x=BEYOND)], 3, [numbered(3)], 9]

    outputs = RUNS[run](Predict(weights, order="sequence"), events)

    assert steps(outputs) == [(0, 1), (1, 2), (3, 3)]
    assert [(gap.first, gap.last) for gap in outputs.gaps] == [(2, 2)]


def test_max_jump_is_checked_before_a_pipeline_runs():
    with pytest.raises(ConfigurationError, match="max_jump must be a whole number of at least 1"):
        Predict("weights.arrow", order="sequence", max_jump=0)
    with pytest.raises(ConfigurationError, match=r"max_jump=5 is for order='sequence', got order"):
        Predict("weights.arrow", max_jump=5)


@pytest.mark.usefixtures("each_way")
def test_records_stamped_with_the_end_of_time_wait_by_their_own(weights, caplog):
    """As behind a triggered grouping in the global window."""
    said = Collect()
    stamp = beam.Map(lambda r, t=beam.DoFn.TimestampParam: (r.step, float(t) - START))
    end = GlobalWindow().max_timestamp()
    events = [[record(0)], 5, [record(6)], 10]

    predict_stream(Predict(weights), *events, time=lambda _: end, then=stamp | said)

    assert sorted(said.elements) == [(1, 0.5), (2, 6.5)]
    assert "has the end of the global window as its Beam timestamp" in caplog.text
