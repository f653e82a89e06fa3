"""Prompts into sequences that a model writes."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.io.filesystems import FileSystems

from beam_rnn.core.checks import check_choice
from beam_rnn.core.errors import WeightsError
from beam_rnn.models.generator import Generation
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.packing import PackRecords
from beam_rnn.records.results import INVALID, Generated, InvalidRecord
from beam_rnn.streaming.model_files import read_model
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.transforms.arguments import path_of, take_one
from beam_rnn.transforms.generate_dofn import GenerateSequences


class GenerateOutputs(NamedTuple):
    """What `Generate` gives.

    Attributes:
        generated: The sequences: `samples` of each key and window.
        invalid: Dead letters: records of prompts that cannot be used, with the reason, and the last
            record of a prompt whose sequence left the range of numbers.
    """

    generated: PCollection[Generated]
    invalid: PCollection[InvalidRecord]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class Generate(beam.PTransform):
    """Writes sequences that follow prompts: one-to-many.

    The records of each key and window are a prompt, in the order of time, sequence number and
    bytes, equal ones once; one record is a prompt too. Where the columns mark starts and ends, the
    prompt is the last sequence. It is stepped; then what the network says of the next record is
    drawn, and given to it as that record, step after step. The model must see no more than it
    predicts: its inputs are targets, or the one symbol that is the class; static fields stay as
    they were, the calendar goes on by `every`.

    What is drawn: of classes (`output="softmax"`) one; with `output="sigmoid"` 0 or 1 for each
    target by itself; with `"gaussian"` a number from the normal distribution; with `"quantiles"`
    a number by the line through them; other outputs are fed back as they are. The same records
    give the same sequences, bit for bit, whatever the order, the bundles and the runner: chance
    is decided by the seed, the key and the number of the sample.

        >>> Generate("weights.arrow", length=100, temperature=0.8, seed=7).label
        'Generate'

    Args:
        weights: The weights file, on any filesystem that Beam knows, or a pattern of files of
            which the last by name counts. Of a file with a model for each key, each key has its
            own.
        length: How many steps are generated at the most.
        stop: The class with which a sequence ends, which is not among its symbols; None to go on
            to its length.
        temperature: Values are drawn with probabilities in proportion to p^(1/temperature): 1 as
            learned, less for what is more likely, 0 for the most likely without any chance.
        top_k: Of classes only so many, the most likely ones, are drawn; None for any.
        seed: Decides all that is drawn, together with the key and the number of the sample.
        samples: How many sequences follow each prompt.
        every: How many seconds a generated record comes after the one before; needed where the
            model sees the calendar.
        kernel: As for `Predict`.

    Raises:
        ConfigurationError: A value outside its range, or a model that cannot generate: at once if
            the file can be read here, else by the worker.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        length: int,
        *,
        stop: str | int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
        samples: int = 1,
        every: float | None = None,
        kernel: str = "auto",
    ):
        super().__init__()
        self._weights = path_of("weights", weights)
        check_choice("kernel", kernel, KERNELS)
        self._kernel = kernel
        self._how = Generation(length, stop, temperature, top_k, seed, samples, every)
        if FileSystems.get_scheme(self._weights) is None and Path(self._weights).is_file():
            with contextlib.suppress(WeightsError):  # the worker says what is wrong with it
                self._how.check(read_model(self._weights))

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, gather the prompts, and go on from each."""
        loader = ModelLoader(self._weights, None, self._kernel)
        checked = pcoll | "Check" >> beam.ParDo(PackRecords(loader.reader)).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="checked")
        generate = beam.ParDo(GenerateSequences(loader, self._how))
        made = (
            checked.checked
            | "ByKey" >> beam.GroupByKey()
            | "Generate"
            >> generate.with_output_types(Generated, invalid=InvalidRecord).with_outputs(
                INVALID, main="generated"
            )
        )
        invalid = (checked.invalid, made.invalid) | "Invalid" >> beam.Flatten()
        return GenerateOutputs(made.generated, invalid)

    def display_data(self) -> dict[str, Any]:
        """What the monitoring page of a runner shows."""
        how = {name: value for name, value in vars(self._how).items() if value is not None}
        return {"weights": self._weights, **how, "kernel": self._kernel}
