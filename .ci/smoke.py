"""Test the installed wheel outside the checkout: train, stream, read back. Run by `.ci/wheel`."""

import math
from importlib.metadata import requires, version
from pathlib import Path

import apache_beam as beam

import beam_rnn
from beam_rnn import Columns, Network, Predict, Sequences, Train, Training, WriteModel
from beam_rnn.portable import PROVIDERS

package = Path(beam_rnn.__file__).parent
assert "site-packages" in package.parts, f"not the installed package: {package}"
assert (package / "py.typed").exists()
assert Path(PROVIDERS).exists()
assert version("beam-rnn") == beam_rnn.__version__
needed = {r.split(">")[0] for r in requires("beam-rnn") if "extra" not in r}
assert needed == {"apache-beam", "numpy", "pyarrow"}, needed

columns = Columns(key="id", time="t", inputs=["x"])
records = [{"id": k, "t": t, "x": math.sin(t / 5)} for t in range(50) for k in "ab"]
with beam.Pipeline(runner="FnApiRunner") as pipeline:
    _ = (
        pipeline
        | beam.Create(records)
        | Sequences(columns)
        | Train(Network("gru", hidden=4), Training(epochs=1))
        | WriteModel("weights.arrow")
    )
with beam.Pipeline(runner="FnApiRunner") as pipeline:
    outputs = pipeline | beam.Create(records) | Predict("weights.arrow")
    _ = outputs.predictions | beam.io.WriteToText("predictions", num_shards=1)
lines = next(Path().glob("predictions*")).read_text().splitlines()
assert len(lines) == len(records), len(lines)
print(f"the wheel works: beam_rnn {beam_rnn.__version__} from {package}")
