"""A streaming job of the tests: records of a Kafka topic through `Predict`, each output to files.

    python -m tests.engines.flink.job --topic T --broker B --expansion_service E --output FOLDER \\
        --predict '{"rows": {...}, "shards": {"shards": 4, ...}}' BEAM FLAGS

Every entry of --predict is a branch: the arguments of one `Predict` on the same records.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows

from beam_rnn import Predict
from pipelines.messages import ReadMessages


class Append(beam.DoFn):
    """Rows to the end of a file of this process, a bundle at a time.

    A bundle that is done again after a crash is written again: rows may be there twice.
    """

    def __init__(self, path):
        self._path = path

    def start_bundle(self):
        self._lines = []

    def process(self, row):
        """Write the row and the time as a line of JSON."""
        said = {**(row if isinstance(row, dict) else row._asdict()), "seen": time.time()}
        self._lines.append(json.dumps(said, default=lambda data: data.hex()) + "\n")

    def finish_bundle(self):
        if self._lines:
            file = os.open(f"{self._path}-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, "".join(self._lines).encode())
            os.close(file)


def lines(path) -> Iterator[dict[str, Any]]:
    """The rows of all files that `Append` has written so far."""
    for file in sorted(path.parent.glob(f"{path.name}-*")):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be half there
                yield json.loads(line)


def main(argv=None):
    """Submit the job, and wait for its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("topic", "broker", "expansion_service", "output", "predict", "weights"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--window", type=float, help="count what comes in so many seconds")
    parser.add_argument("--unrelated", action="store_true", help="a step that was not there before")
    args, flags = parser.parse_known_args(argv)
    pipeline = beam.Pipeline(options=PipelineOptions(flags))
    source = f"kafka://{args.broker}/{args.topic}?auto.offset.reset=earliest"
    records = pipeline | "Records" >> ReadMessages(source, args.expansion_service)
    for branch, settings in json.loads(args.predict).items():
        outputs = (records | branch >> Predict(args.weights, **settings))._asdict()
        if args.window is not None:
            outputs["windowed"] = (
                outputs["predictions"]
                | f"Key-{branch}" >> beam.Map(lambda row: (row.key, 1))
                | f"Window-{branch}" >> beam.WindowInto(FixedWindows(args.window))
                | f"Count-{branch}" >> beam.CombinePerKey(sum)
                | f"Counted-{branch}" >> beam.MapTuple(lambda key, rows: {"key": key, "rows": rows})
            )
        for name, rows in outputs.items():
            path = f"{args.output}/{branch}-{name}"
            _ = rows | f"Append-{branch}-{name}" >> beam.ParDo(Append(path))
    if args.unrelated:  # built last: timers are kept by the number of their step in the graph
        _ = records | "Unrelated" >> beam.Map(len)
    pipeline.run().wait_until_finish()


if __name__ == "__main__":
    main()
