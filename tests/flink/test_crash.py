"""A TaskManager that is killed: the job goes on from its last checkpoint."""

import time

import pytest

from beam_rnn import Network
from tests.flink.stream import SPREAD, plan
from tests.models import random_model, saved

ORDERED = {"wait": SPREAD, "with_state": True}
BRANCHES = {"rows": ORDERED, "shards": {**ORDERED, "shards": 4}}


@pytest.mark.parametrize("backend", ["rocksdb", "filesystem"])
def test_a_killed_taskmanager_loses_and_changes_nothing(backend, stream, tmp_path):
    model = random_model(Network("gru", hidden=8))
    # "filesystem" is Beam's name for Flink's hashmap: on the heap, checkpoints in files.
    where = f"--state_backend_storage_path=file://{stream.flink.folder}/checkpoints"
    stream.submit(saved(model, tmp_path), BRANCHES, f"--state_backend={backend}", where)
    sending = stream.send(plan(600, rate=40))
    stream.wait_for_steps("rows", 100)
    stream.wait_for_steps("shards", 100)
    time.sleep(0.5)  # between two checkpoints
    stream.flink.kill_taskmanager(1)
    stream.flink.start_taskmanager(1)
    sending.join()

    for branch in BRANCHES:
        stream.wait_for_steps(branch)
        counts = stream.counts(branch, model)
        print(branch, counts)
        assert (counts.expected, counts.lost, counts.wrong) == (600, 0, 0)
        assert stream.rows(branch, "late") == stream.rows(branch, "invalid") == []
    assert stream.flink.checkpoints(stream.job)["restored"] > 0
