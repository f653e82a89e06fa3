"""Streams with a watermark that a test moves, on the engines that know them."""

from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from tests.helpers.engines import FLAGS as BATCH_FLAGS
from tests.helpers.engines import ON_PRISM, Outputs

START = 1_500_000_000
FLAGS = {
    "bundle_based": ["--runner=BundleBasedDirectRunner", "--streaming"],
    "prism": [*BATCH_FLAGS["prism"], "--streaming"],
}
ENGINES = ["bundle_based", ON_PRISM]
"""Those that a test is given by `parametrize`."""


def stream(*events, time="t"):
    """A stream of numbers, which move the watermark, and lists of records."""
    source = TestStream(coder=beam.coders.FastPrimitivesCoder())
    for event in events:
        if isinstance(event, list):
            at = time if callable(time) else (lambda record: record[time])
            source = source.add_elements([TimestampedValue(r, at(r)) for r in event])
        else:
            source = source.advance_watermark_to(START + event)
    return source.advance_watermark_to_infinity()


def predict_stream(transform, *events, engine="bundle_based", time="t", then=None, kind=None):
    """The outputs of `Predict`, and what `then` makes of its predictions.

    `time` names the field with the Beam timestamp, or gives it; `kind` is that of the elements.
    """
    pipeline = beam.Pipeline(options=PipelineOptions(FLAGS[engine]))
    # Prism reads an empty bag in a timer right behind a TestStream.
    records = (
        pipeline
        | stream(*events, time=time)
        | "Pass" >> beam.Map(lambda record: record).with_output_types(kind or Any)
    )
    outputs = records | transform
    built = Outputs(outputs)
    if then is not None:
        _ = outputs[0] | then
    pipeline.run().wait_until_finish()
    return built
