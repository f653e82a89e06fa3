"""A model handler for Beam's RunInference, where each example is a whole sequence."""

import os
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from beam_rnn.core.checks import check_choice
from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.data.sequences import Sequence
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.transforms.arguments import path_of
from beam_rnn.transforms.inference_model import LoadedModel


class RnnModelHandler(ModelHandler[Any, PredictionResult, LoadedModel]):
    """A weights file as a model of Beam's RunInference, for whole sequences.

    An example is one sequence of one key: a list of its records, as `Predict` takes them, or a
    `beam_rnn.Sequence`, as `Sequences` gives them. The inference is an array with a row of outputs
    for each record of the example, in the targets' own units; or one row, that of the last record,
    with emit="last" or for a network with output_steps="last". It has the bits of `Predict` and
    `PredictSequences`, whatever else is in the batch. The records of a list may be in any order:
    they are sorted by event time, sequence number and value, equal ones count once, and each gets
    its own row. `model_id` is the digest of the model, as in a `Prediction`.

        >>> import tempfile
        >>> from apache_beam.ml.inference.base import RunInference
        >>> from beam_rnn import Columns, Model, Network, weights
        >>> network, columns = Network("gru", hidden=4), Columns(key="id", time="t", inputs=["x"])
        >>> path = tempfile.mkdtemp() + "/weights.arrow"
        >>> weights.save(Model(network, network.initialize(1, 1, seed=0), columns), path)
        >>> examples = [[{"id": "a", "t": t, "x": t / 9} for t in range(n)] for n in (2, 5)]
        >>> with beam.Pipeline(runner="FnApiRunner") as p:
        ...     results = p | beam.Create(examples) | RunInference(RnnModelHandler(path))
        ...     _ = results | beam.Map(lambda result: print(result.inference.shape))
        (2, 1)
        (5, 1)

    An example that cannot be used raises an error that names the value. With RunInference's
    `.with_exception_handling()` the whole batch then is a dead letter; with
    `handler.with_preprocess_fn(handler.checked)` the example only.

    Args:
        weights: The weights file, on any filesystem that Beam knows, with one model or a model for
            each key.
        emit: "every": a row for each record; "last": that of the last one.
        kernel: As for `Predict`.
        min_batch_size: The minimum number of examples in a batch, as in Beam's handlers.
        max_batch_size: The maximum number.
        max_batch_duration_secs: Wait up to this long, across bundles, for a full batch.
        batch_length_fn: Returns the length of an example: Beam makes batches of examples of similar
            length. The number of its records if left out. It gets the key too, behind a
            `KeyedModelHandler`.
        batch_bucket_boundaries: The lengths at which another batch begins; needs
            max_batch_duration_secs. No batch is padded, and no result depends on it: it makes the
            cost of batches even.
        large_model: Share one copy of the model among the processes of a machine.
        model_copies: Share this number of copies.
        env_vars: Environment variables to set before the model is loaded.

    Raises:
        ConfigurationError: A value outside its range, or values that do not go together. Of a
            weights file: on the worker, when it is read.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        emit: str = "every",
        kernel: str = "auto",
        min_batch_size: int | None = None,
        max_batch_size: int | None = None,
        max_batch_duration_secs: int | None = None,
        batch_length_fn: Callable[[Any], int] | None = None,
        batch_bucket_boundaries: SequenceOf[int] | None = None,
        large_model: bool = False,
        model_copies: int | None = None,
        env_vars: Mapping[str, str] | None = None,
    ):
        self._weights = path_of("weights", weights)
        check_choice("emit", emit, ("every", "last"))
        check_choice("kernel", kernel, KERNELS)
        by_length = batch_length_fn is not None or batch_bucket_boundaries is not None
        if by_length and max_batch_duration_secs is None:
            raise ConfigurationError(
                f"batch_bucket_boundaries={batch_bucket_boundaries!r} and a batch_length_fn need "
                "max_batch_duration_secs: without it Beam makes batches within a bundle, and does "
                "not look at lengths"
            )
        super().__init__(
            min_batch_size=min_batch_size,
            max_batch_size=max_batch_size,
            max_batch_duration_secs=max_batch_duration_secs,
            batch_length_fn=(batch_length_fn or steps_of) if by_length else None,
            batch_bucket_boundaries=batch_bucket_boundaries and list(batch_bucket_boundaries),
            large_model=large_model,
            model_copies=model_copies,
            env_vars=dict(env_vars or {}),
        )
        self._emit = emit
        self._kernel = kernel
        self._checks: LoadedModel | None = None

    def load_model(self) -> LoadedModel:
        """Return the model of the file; its kernel is compiled."""
        model = LoadedModel(self._weights, self._kernel)
        model.warm_up()
        return model

    def run_inference(
        self,
        batch: SequenceOf[Any],
        model: LoadedModel,
        inference_args: Mapping[str, Any] | None = None,
    ) -> list[PredictionResult]:
        """Return the outputs of each example of a batch.

        Args:
            batch: The examples.
            model: From `load_model`.
            inference_args: None.

        Raises:
            RecordError: An example cannot be used.
        """
        self.validate_inference_args(inference_args)
        said = model.outputs([_held(example) for example in batch], self._emit)
        return [
            PredictionResult(example, outputs, digest)
            for example, (outputs, digest) in zip(batch, said, strict=True)
        ]

    def checked(self, example: Any) -> Any:
        """Return an example as it is, if it can be used: for `with_preprocess_fn`.

        Args:
            example: The example; or a pair of a key and an example, behind a `KeyedModelHandler`.

        Raises:
            RecordError: It cannot be used.
        """
        if self._checks is None:
            self._checks = LoadedModel(self._weights, self._kernel)
        self._checks.check(_held(_without_key(example)))
        return example

    def get_num_bytes(self, batch: SequenceOf[Any]) -> int:
        """Return the size of a batch: of its arrays, and of other examples pickled."""
        arrays = sum(each.inputs.nbytes for each in batch if isinstance(each, Sequence))
        rest = [each for each in batch if not isinstance(each, Sequence)]
        return arrays + (super().get_num_bytes(rest) if rest else 0)

    def get_metrics_namespace(self) -> str:
        """Return the namespace of this library's counters, for those of RunInference."""
        return "beam_rnn"

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        """Raise if there are inference arguments: the handler has them all.

        Raises:
            ConfigurationError: There are some.
        """
        if inference_args:
            raise ConfigurationError(
                f"RnnModelHandler takes no inference_args, got {dict(inference_args)}: give "
                "its options to RnnModelHandler itself"
            )

    def update_model_path(self, model_path: str | None = None) -> None:
        """Load the model of another file from now on; None for the same file."""
        self._weights = model_path or self._weights

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checks": None}

    def __repr__(self) -> str:
        return f"RnnModelHandler({self._weights!r}, emit={self._emit!r}, kernel={self._kernel!r})"


def steps_of(example: Any) -> int:
    """Return the number of records of an example, or of a pair of a key and an example.

    >>> steps_of([{"x": 1}, {"x": 2}]), steps_of(("key", [{"x": 1}]))
    (2, 1)
    """
    example = _without_key(example)
    return len(example.times) if isinstance(example, Sequence) else sum(1 for _ in example)


def _without_key(example: Any) -> Any:
    pair = isinstance(example, tuple) and not isinstance(example, Sequence) and len(example) == 2
    return example[1] if pair else example


def _held(example: Any) -> Any:
    """Return an example that can be iterated again and pickled."""
    if isinstance(example, (Sequence, list)):
        return example
    if isinstance(example, _NO_EXAMPLE) or not isinstance(example, Iterable):
        raise RecordError("an example must be a Sequence or a list of records", example)
    return list(example)


_NO_EXAMPLE = (str, bytes, tuple, Mapping, beam.Row, np.ndarray)
"""Types that can be iterated but hold no records: a record, or its numbers."""
