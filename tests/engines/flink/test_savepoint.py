"""A job that is stopped with a savepoint, and goes on from it: as it was, wider, or with another
model."""

from collections import Counter

from beam_rnn import Network, weights
from beam_rnn.testing import oracle
from tests.engines.flink.changes import WINDOW, of_replay, of_reset
from tests.engines.flink.stream import SPREAD, count, plan
from tests.helpers.models import random_model, saved

ORDERED = {"wait": SPREAD, "with_state": True}
BRANCHES = {"rows": ORDERED, "shards": {**ORDERED, "shards": 4}}
CHANGES = {
    "keep": {**ORDERED, "on_model_change": "keep"},
    "reset": {**ORDERED, "on_model_change": "reset", "shards": 4},
    "replay": {**ORDERED, "on_model_change": "replay", "replay": WINDOW},
}


def test_a_larger_job_with_an_added_step_continues_from_the_savepoint(stream, tmp_path):
    model = random_model(Network("gru", hidden=8))
    path = saved(model, tmp_path)
    stream.submit(path, BRANCHES, parallelism=2)
    sending = stream.send(plan(600, rate=30))
    for branch in BRANCHES:
        stream.wait_for_steps(branch, 50)
    savepoint = stream.save()
    stream.submit(path, BRANCHES, "--unrelated", savepoint=savepoint, parallelism=4)
    sending.join()

    for branch in BRANCHES:
        stream.wait_for_steps(branch)
        counts = stream.counts(branch, model)
        print(branch, counts)
        # What came out after the savepoint and before the end comes again, and is the same.
        assert (counts.expected, counts.lost, counts.wrong) == (600, 0, 0)
        assert stream.rows(branch, "late") == stream.rows(branch, "invalid") == []
    assert stream.flink.jobs.checkpoints(stream.job)["restored"] == 1


def test_a_model_that_changed_while_the_job_was_stopped(stream, tmp_path):
    """Of each key, the steps before the savepoint are those of the first model."""
    first, second = (random_model(Network("gru", hidden=8), seed=seed) for seed in (1, 2))
    models = tmp_path / "models"
    models.mkdir()
    weights.save(first, models / "1.arrow")
    stream.submit(f"{models}/*.arrow", CHANGES)
    stream.send(plan(300, rate=50)).join()
    for branch in CHANGES:
        stream.wait_for_steps(branch)
    savepoint = stream.save()
    before = list(stream.sent)
    weights.save(second, models / "2.arrow")
    sending = stream.send(plan(300, rate=30, seed=1))
    stream.submit(f"{models}/*.arrow", CHANGES, savepoint=savepoint)
    sending.join()
    after = stream.sent[300:]
    for branch in CHANGES:
        stream.wait_for_rows(600, branch)

    was = oracle(first, before, with_state=True).predictions
    assert stream.counts("keep", first) == (600, 0, 0, 0)
    assert count(stream.rows("reset"), [*was, *of_reset(second, before, after)]) == (600, 0, 0, 0)
    assert count(stream.rows("replay"), [*was, *of_replay(second, before, after)]) == (600, 0, 0, 0)
    assert Counter(row["reason"] for row in stream.rows("reset", "ended")) == {"model": 20}
    assert stream.rows("keep", "ended") == stream.rows("replay", "ended") == []
