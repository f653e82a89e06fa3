"""`Predict` in a live stream: turns, lateness, ends, gaps; what comes out and when."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_rnn import Predict
from beam_rnn.testing import oracle
from tests.models import COLUMNS, random_model, saved
from tests.streams import START, predict_stream
from tests.test_predict import BAD, row

MARKED = replace(COLUMNS, start="first", end="last")
NUMBERED = replace(COLUMNS, sequence="n")
SECOND = 1_000_000
BAD_ROWS = [record for record in BAD if isinstance(record, dict)]


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("weights"))


def at(rows):
    """The times of rows, in seconds after START."""
    return sorted((r.time - START * SECOND) / SECOND for r in rows)


class Simulated:
    """The rules in a few lines: what is pending, what has been stepped, what came too late."""

    def __init__(self, wait, grid):
        self.wait, self.grid = wait, grid
        self.pending, self.stepped, self.late = {}, {}, []

    def arrive(self, record):
        done = self.stepped.get(record["id"], [])
        if done and record["t"] <= done[-1]["t"]:
            self.late.append(record)
        else:
            self.pending.setdefault(record["id"], []).append(record)

    def due(self, record):
        on_grid = ((record["t"] + self.wait) // self.grid + 1) * self.grid
        return max(on_grid, record["at"])

    def watermark(self, time):
        for key, waiting in self.pending.items():
            reached = max((r["t"] for r in waiting if self.due(r) <= time), default=-1)
            ready = [r for r in waiting if r["t"] <= reached]
            self.pending[key] = [r for r in waiting if r["t"] > reached]
            self.stepped.setdefault(key, []).extend(sorted(ready, key=lambda r: r["t"]))


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_the_same_records_give_the_same_bits_however_they_arrive(data, model, weights):
    """Random keys, ties, duplicates, bad records, bundles; some records later than the wait."""
    wait, grid = data.draw(st.sampled_from([(0, 1), (4, 1), (4, 5)]))
    rows = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.integers(0, 20),
                st.integers(-2, 2),
                st.sampled_from([0, 1, 2, 3, wait, wait + 9, wait + 30]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    bad = data.draw(st.lists(st.sampled_from(BAD_ROWS), max_size=3))
    arrivals = [(t + delay, {**row(t, key, x=x / 3), "good": True}) for key, t, x, delay in rows]
    arrivals += [(data.draw(st.integers(0, 20)), r) for r in bad]
    arrivals = [(clock, {**r, "at": START + clock}) for clock, r in arrivals]
    arrivals.sort(key=lambda pair: pair[0])
    cuts = data.draw(st.sets(st.integers(1, 40), max_size=4))

    simulated, events, bundle = Simulated(wait, grid), [], []
    clock = -1
    for c, record in arrivals:
        if c != clock and any(clock < cut <= c for cut in cuts):
            if bundle:
                events.append(bundle)
                bundle = []
            # The watermark is where the arrivals are, less the lateness that it knows of.
            events.append(c)
            simulated.watermark(START + c)
        clock = c
        bundle.append(record)
        if "good" in record:
            simulated.arrive(record)
    events.append(bundle)
    simulated.watermark(float("inf"))

    outputs = predict_stream(
        Predict(weights, wait=wait, grid=grid, with_state=True), *events, time="at"
    )

    on_time = [r for rows in simulated.stepped.values() for r in rows]
    expected = oracle(model, on_time, with_state=True)
    assert sorted(outputs.predictions) == sorted(expected.predictions)
    assert sorted(outputs.ended) == sorted(expected.ended)
    assert sorted((r.key, r.time) for r in outputs.late) == sorted(
        (r["id"], r["t"] * SECOND) for r in simulated.late
    )
    assert len(outputs.invalid) == len(bad)
    assert not outputs.gaps
