"""A killed TaskManager: the job continues from its last checkpoint."""

import random
import time

import pytest

from beam_rnn import Network
from tests.engines.flink.stream import SPREAD, Stream, plan
from tests.helpers.models import random_model, saved

ORDERED = {"wait": SPREAD, "with_state": True}
BRANCHES = {"rows": ORDERED, "shards": {**ORDERED, "shards": 4}}
RECORDS = 600
MODEL = random_model(Network("gru", hidden=8))


@pytest.mark.parametrize("backend", ["rocksdb", "filesystem"])
def test_a_killed_taskmanager_loses_and_changes_nothing(backend, stream, tmp_path):
    # "filesystem" is Beam's name for Flink's hashmap: on the heap, checkpoints in files.
    where = f"--state_backend_storage_path=file://{stream.flink.folder}/checkpoints"
    run_killed(stream, tmp_path, 0.5, f"--state_backend={backend}", where)


@pytest.fixture(scope="module")
def uninterrupted(flink, kafka, tmp_path_factory):
    """The last hidden state of each key in each branch, of a run in which nothing is killed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with Stream(flink, *kafka, folder, "uninterrupted") as stream:
        stream.submit(saved(MODEL, folder), BRANCHES)
        stream.send(plan(RECORDS, rate=40)).join()
        for branch in BRANCHES:
            stream.wait_for_steps(branch)
        return last_states(stream)


@pytest.mark.soak
@pytest.mark.parametrize("run", range(10))
def test_ten_runs_end_in_the_states_of_an_uninterrupted_one(run, uninterrupted, stream, tmp_path):
    """Each is killed at another moment between two checkpoints."""
    run_killed(stream, tmp_path, random.Random(run).random())
    assert last_states(stream) == uninterrupted


def run_killed(stream, folder, seconds, *flags):
    """A run whose second TaskManager is killed so many seconds after it has got going."""
    stream.submit(saved(MODEL, folder), BRANCHES, *flags)
    sending = stream.send(plan(RECORDS, rate=40))
    for branch in BRANCHES:
        stream.wait_for_steps(branch, 100)
    time.sleep(seconds)
    stream.flink.kill_taskmanager(1)
    stream.flink.start_taskmanager(1)
    sending.join()
    for branch in BRANCHES:
        stream.wait_for_steps(branch)
        counts = stream.counts(branch, MODEL)
        print(branch, counts)
        assert (counts.expected, counts.lost, counts.wrong) == (RECORDS, 0, 0)
        assert stream.rows(branch, "late") == stream.rows(branch, "invalid") == []
    assert stream.flink.jobs.checkpoints(stream.job)["restored"] > 0


def last_states(stream):
    """Branch and key -> steps and hidden state."""
    last = {}
    for branch in BRANCHES:
        for row in sorted(stream.rows(branch), key=lambda row: row["step"]):
            last[branch, row["key"]] = row["step"], row["state"]
    return last
