"""Generates sequences after prompts, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.coders import registry

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.portable.arguments import by_name
from beam_rnn.portable.error_rows import output_name, with_refused
from beam_rnn.portable.schemas import check_fields, columns_of, model_of, time_text
from beam_rnn.records.results import Generated
from beam_rnn.transforms.generate import Generate


class GeneratedRow(NamedTuple):
    """A sequence that a model generated after a prompt.

    Attributes:
        key: The key of the prompt, as text.
        sample: The number of the sequence among those of the prompt: 1 for the first.
        time: The event time of the last record of the prompt, as ISO 8601 text.
        values: For each step a number for each target; empty if the target is a class.
        symbols: The class of each step, as text; empty if the targets are numbers.
        log_probability: As in `beam_rnn.Generated`.
        reason: Why it ended: "length" or "stop".
        model: The digest of the model.
    """

    key: str
    sample: int
    time: str
    values: Sequence[Sequence[float]]
    symbols: Sequence[str]
    log_probability: Optional[float]
    reason: str
    model: str


registry.register_row(GeneratedRow)


class RnnGenerate(beam.PTransform):
    """Generates sequences after prompts; gives a row for each sequence.

    The records of each key and window are a prompt. A row has the fields key, sample, time, values
    (numbers) or symbols (classes) of each step, log_probability, reason and model.

        >>> RnnGenerate("weights.arrow", length=100, temperature=0.8, seed=7).label
        'RnnGenerate'

    Args:
        weights: The weights file, on any filesystem that Beam knows, or a pattern of files of which
            the last by name counts.
        length: The maximum number of generated steps.
        stop: The class that ends a sequence; none if left out.
        temperature: 1 samples values as learned, below 1 more of what is likely, 0 always the most
            likely.
        top_k: Sample from this number of most likely classes only; all if left out.
        seed: Decides everything random, together with the key and the number of the sample.
        samples: The number of sequences after each prompt.
        every: Seconds from one generated record to the next; required if the model sees the
            calendar.
        kernel: The implementation: "numpy", "fused" or "auto".
        error_handling: {output: NAME} gives records that cannot be used as a further output;
            without it they stop the pipeline.

    Raises:
        ConfigurationError: A value outside its range, or a model that cannot generate: at once if
            the file can be read here, else by the worker. At construction of the pipeline, a field
            that is not there.
    """

    @by_name
    def __init__(
        self,
        weights: str,
        length: int,
        stop: Optional[str] = None,
        temperature: float = 1.0,
        top_k: Optional[int] = None,
        seed: int = 0,
        samples: int = 1,
        every: Optional[float] = None,
        kernel: str = "auto",
        error_handling: Optional[Mapping[str, Any]] = None,
    ):
        super().__init__()
        self._weights = weights
        self._output = output_name(error_handling)
        self._generate = Generate(
            weights,
            length,
            stop=stop,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            samples=samples,
            every=every,
            kernel=kernel,
        )

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Generate, and make rows."""
        self._check_fields(pcoll)
        outputs = pcoll | "Generate" >> self._generate
        rows = outputs.generated | "Rows" >> beam.Map(generated_row).with_output_types(GeneratedRow)
        return with_refused(rows, self._output, outputs.invalid)

    def _check_fields(self, pcoll: PCollection[Any]) -> None:
        try:
            columns = columns_of(model_of(self._weights))
        except ConfigurationError:
            return  # the worker sees the file
        check_fields(pcoll, "RnnGenerate", columns, f"{self._weights} reads it")


def generated_row(generated: Generated) -> GeneratedRow:
    """Return a generated sequence with its time as text."""
    return GeneratedRow(
        generated.key,
        generated.sample,
        time_text(generated.time),
        generated.values,
        generated.symbols,
        generated.log_probability,
        generated.reason,
        generated.model,
    )
