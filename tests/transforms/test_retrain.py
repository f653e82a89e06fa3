"""The example that trains on a stream while it predicts."""

from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn import Columns, Network, Training, weights
from beam_rnn.errors import ConfigurationError
from beam_rnn.training.fit import fit_sequences
from pipelines import retrain
from tests.helpers.engines import Collect
from tests.helpers.models import random_model, saved
from tests.helpers.sequences import wave
from tests.helpers.streams import ENGINES, FLAGS, START, stream

COLUMNS = Columns(key="id", time="t", inputs=["x"])


def records(first, last):
    return [
        {"id": key, "t": START + t, "x": float(np.sin(t / 3))}
        for t in range(first, last)
        for key in ("a", "b")
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_each_window_trains_a_model_from_the_one_before_and_predict_takes_it_up(engine, tmp_path):
    first = fit_sequences(Network("gru", 4), [wave(columns=COLUMNS)], Training(epochs=1))
    weights.save(first, tmp_path / "00000000T000000Z.arrow")
    args, _ = retrain.parse(
        [
            "--input=none",
            f"--models={tmp_path}",
            "--output=none",
            "--every=20",
            "--watch=0",
            "--replay=8",
        ]
    )
    predictions, paths = Collect(), Collect()
    pipeline = beam.Pipeline(options=PipelineOptions(FLAGS[engine]))
    events = [records(0, 20), 21, records(20, 22), 23, records(22, 40), 41, records(40, 42), 60]
    source = (
        pipeline
        | stream(*events)
        | "Pass" >> beam.Map(lambda record: record).with_output_types(dict)
    )
    outputs, models = retrain.build(source, args, first)
    _ = outputs.predictions | "Predictions" >> predictions
    _ = models | "Models" >> paths
    pipeline.run().wait_until_finish()

    files = sorted(tmp_path.glob("2*.arrow"))
    assert sorted(paths.elements) == [str(path) for path in files]
    assert [path.name for path in files[:2]] == [
        "20170714T024019Z.arrow",
        "20170714T024039Z.arrow",
    ]
    learned = [weights.load(path) for path in files]
    assert [model.training["records"] for model in learned[:2]] == [38, 38]
    used = {row.model for row in predictions.elements}
    assert {first.digest, learned[0].digest, learned[1].digest} <= used
    last = [row.model for row in predictions.elements if row.time >= (START + 40) * 1_000_000]
    assert set(last) <= {model.digest for model in learned}
    for key in ("a", "b"):
        steps = sorted(row.step for row in predictions.elements if row.key == key)
        assert steps == list(range(1, 43))


def test_a_model_that_orders_by_the_place_in_a_file_is_refused(tmp_path):
    of_rows = replace(COLUMNS, sequence="row")
    saved(random_model(columns=of_rows), tmp_path)

    flags = [f"--models={tmp_path}", "--input=*.csv", "--every=60", f"--output={tmp_path}/p"]
    with pytest.raises(
        ConfigurationError, match="--sequence row, but arriving files have no defined order"
    ):
        retrain.main(flags)
