"""Generates sequences after prompts."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice
from beam_rnn.core.errors import WeightsError
from beam_rnn.core.filesystems import scheme_of
from beam_rnn.models.generator import Generation
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.results import Generated, InvalidRecord
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.packing import PackRecords
from beam_rnn.training.model_files import read_model
from beam_rnn.transforms.arguments import path_of, take_one
from beam_rnn.transforms.generate_dofn import GenerateSequences
from beam_rnn.transforms.stream_outputs import check_records, step_keys


class GenerateOutputs(NamedTuple):
    """The outputs of `Generate`.

    Attributes:
        generated: The sequences: `samples` of each key and window.
        invalid: Dead letters: records of prompts that cannot be used, with the reason, and the last
            record of a prompt whose sequence overflowed.
    """

    generated: PCollection[Generated]
    invalid: PCollection[InvalidRecord]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class Generate(beam.PTransform):
    """Generates sequences after prompts: one-to-many.

    The records of each key and window are a prompt, sorted by time, sequence number and bytes;
    equal ones count once, and a single record is a prompt too. If the columns mark starts and ends,
    the prompt is the last sequence. The network steps through it; then the next record is sampled
    from its outputs and fed back as its input, step after step. So the model may see nothing that
    it does not predict: its inputs are targets, or the one symbol that is the class. Static fields
    keep their values, and the time advances by `every`.

    Sampled are: one of the classes (`output="softmax"`); 0 or 1 for each target independently
    (`"sigmoid"`); a number from the normal distribution (`"gaussian"`); a number from the
    distribution that interpolates the quantiles (`"quantiles"`). Other outputs are fed back as they
    are. The same records give the same sequences, bit for bit, in any order, bundles and runner:
    the seed, the key and the number of the sample decide everything random.

        >>> Generate("weights.arrow", length=100, temperature=0.8, seed=7).label
        'Generate'

    Args:
        weights: The weights file, on any filesystem that Beam knows, or a pattern of files of
            which the last by name counts. Of a file with a model for each key, each key has its
            own.
        length: The maximum number of generated steps.
        stop: The class that ends a sequence, which is not among its symbols; None to generate
            `length` steps.
        temperature: Values are sampled with probabilities proportional to p^(1/temperature): 1 as
            learned, below 1 more of what is likely, 0 always the most likely.
        top_k: Sample from this number of most likely classes only; None for all.
        seed: Decides everything random, together with the key and the number of the sample.
        samples: The number of sequences after each prompt.
        every: Seconds from one generated record to the next; required if the model sees the
            calendar.
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
        if scheme_of(self._weights) is None and Path(self._weights).is_file():
            with contextlib.suppress(WeightsError):  # the worker says what is wrong with it
                self._how.check(read_model(self._weights))

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, gather the prompts, and generate after each."""
        loader = ModelLoader(self._weights, None, self._kernel)
        checked = check_records(pcoll, PackRecords(loader.reader))
        prompts = checked._replace(records=checked.records | "ByKey" >> beam.GroupByKey())
        generate = beam.ParDo(GenerateSequences(loader, self._how))
        return step_keys(prompts, generate, "Generate", GenerateOutputs, Generated)

    def display_data(self) -> dict[str, Any]:
        """Return what the monitoring page of a runner shows."""
        how = {name: value for name, value in vars(self._how).items() if value is not None}
        return {"weights": self._weights, **how, "kernel": self._kernel}
