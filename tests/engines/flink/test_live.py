"""Events while a job runs: late records, ended sequences, a window, a new model."""

from beam_rnn import Network, weights
from beam_rnn.testing import oracle
from tests.engines.flink.changes import WINDOW, by_key, of_replay, of_reset
from tests.engines.flink.stream import SPREAD, Planned, count, plan
from tests.helpers.models import random_model

BEHIND = 30
ORDERED = {"wait": SPREAD, "with_state": True}
ENDING = {
    "rows": {**ORDERED, "idle_after": 4},
    "shards": {**ORDERED, "idle_after": 4, "shards": 4},
}
WATCHING = {
    "reset": {**ORDERED, "watch": 1, "on_model_change": "reset"},
    "replay": {**ORDERED, "watch": 1, "on_model_change": "replay", "replay": WINDOW, "shards": 4},
}


def test_late_records_idle_ends_and_a_window_after_the_predictions(stream, tmp_path):
    model = random_model(Network("gru", hidden=8))
    path = tmp_path / "weights.arrow"
    weights.save(model, path)
    stream.submit(path, ENDING, "--window=2")
    sending = stream.send(plan(400, rate=50))
    for branch in ENDING:
        stream.wait_for_steps(branch, 100)
    late = [Planned(-BEHIND, 0, {"id": "key-3", "x": number, "y": 0}) for number in range(5)]
    stream.send(late, sent=[]).join()
    sending.join()

    expected = oracle(model, stream.sent, idle_after=4, with_state=True)
    ends = {(row.key, "idle", row.steps, row.state.hex()) for row in expected.ended}
    for branch in ENDING:
        stream.wait_for_rows(5, branch, "late")
        stream.wait_for_rows(20, branch, "ended")
        assert count(stream.rows(branch), expected.predictions) == (400, 0, 0, 0)
        assert {row["key"] for row in stream.rows(branch, "late")} == {"key-3"}
        assert all(0 < row["behind"] <= (BEHIND + 30) * 1e6 for row in stream.rows(branch, "late"))
        ended = stream.rows(branch, "ended")
        assert {(row["key"], row["reason"], row["steps"], row["state"]) for row in ended} == ends

        def in_windows(branch=branch):
            return sum(row["rows"] for row in stream.rows(branch, "windowed"))

        stream.wait_for("all predictions in windows", lambda: in_windows() >= 400)
        assert in_windows() == 400


def test_a_newer_model_takes_over(stream, tmp_path):
    """Each key changes at a record of its own, when its worker has seen the file."""
    first, second = (random_model(Network("gru", hidden=8), seed=seed) for seed in (1, 2))
    weights.save(first, tmp_path / "1.arrow")
    stream.submit(f"{tmp_path}/*.arrow", WATCHING)
    sending = stream.send(plan(600, rate=40))
    for branch in WATCHING:
        stream.wait_for_steps(branch, 150)
    weights.save(second, tmp_path / "2.arrow")
    sending.join()

    for branch, of_second in (("reset", of_reset), ("replay", of_replay)):
        stream.wait_for_rows(600, branch)
        rows = stream.rows(branch)
        before, after = [], []
        for key, records in by_key(stream.sent).items():
            taken = sum(row["key"] == key and row["model"] == first.digest for row in rows)
            before += records[:taken]
            after += records[taken:]
        assert before
        assert after
        was = oracle(first, before, with_state=True).predictions
        assert count(rows, [*was, *of_second(second, before, after)]) == (600, 0, 0, 0)
