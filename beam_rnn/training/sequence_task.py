"""Training on sequences: a `Network` and its `Model`."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from beam_rnn.core.errors import ConfigurationError, DivergenceError
from beam_rnn.data.columns import Columns
from beam_rnn.data.scaling import Scaler
from beam_rnn.data.sequences import Sequence, batch_of
from beam_rnn.models.model import Model
from beam_rnn.nn.backprop import first_rows
from beam_rnn.nn.bptt import Learner, learn
from beam_rnn.nn.kernels import Kernel
from beam_rnn.nn.losses import check_targets, loss_name, objective
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.training import batches
from beam_rnn.training.example_store import Examples, Place, encode_example
from beam_rnn.training.sequence_examples import (
    class_weighted,
    for_columns,
    place_among_all,
    scaled,
    statistics_of,
    with_indices,
)
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import Facts, KeyFacts, sum_counts, vocabularies_of
from beam_rnn.training.task import Fitted, wrong_items
from beam_rnn.training.validation import Split, validation_loss

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SequenceTask:
    """A `Network` that learns from sequences: see `beam_rnn.training.task.Task`.

    Raises:
        ConfigurationError: The loss does not fit the network's output function.
    """

    network: Network
    training: Training
    per_key: ClassVar[bool] = True

    def __post_init__(self) -> None:
        loss_name(self.network, self.training.loss)

    @property
    def split_by(self) -> str:
        """By time; by the end of a sequence where each has one output."""
        if not self.training.validation:
            return "none"
        return "end" if self.network.output_steps == "last" else "time"

    @property
    def kernel(self) -> Kernel:
        """The kernel that computes on this machine."""
        return batches.kernel_for(self.network, self.training)

    def has_steps(self, item: Sequence) -> bool:
        """Return True if a sequence has a step to learn from."""
        if not isinstance(item.columns, Columns):
            raise wrong_items(self.network, item.columns)
        return len(item.times) > 0

    def facts_of(self, item: Sequence, split: Split) -> Facts:
        """Return the facts of a sequence."""
        columns, part = item.columns, item.part
        network = for_columns(self.network, columns)
        if part is not None and (network.bidirectional or network.output_steps == "last"):
            raise ConfigurationError(
                f"a sequence of key {item.key!r} comes in parts, which a network with "
                f"bidirectional={network.bidirectional} and output_steps="
                f"{network.output_steps!r} cannot learn from: leave out Sequences(parts_of=...)"
            )
        check_targets(loss_name(network, self.training.loss), network, item.key, item.targets)
        learned, held_back = split.halves(item)
        place = place_among_all(item)
        return Facts(
            columns,
            item.key,
            place,
            item.until,
            0 if learned is None else len(learned.times),
            0 if held_back is None else len(held_back.times),
            None if learned is None else statistics_of(learned, place, self.training),
            tuple(map(Counter, () if learned is None else learned.symbols)),
        )

    def fitted(self, columns: Columns, facts: SequenceOf[KeyFacts]) -> Fitted:
        """Fit the scaler, and collect the vocabularies that are not given."""
        network, training = for_columns(self.network, columns), self.training
        statistics = {each.key: each.statistics for each in facts if each.statistics is not None}
        if training.scaling != "robust":
            _warn_of_outliers(Scaler.outliers(statistics, columns))
        scaler = Scaler.of_statistics(
            statistics,
            columns,
            training.scaler,
            training.scaling,
            targets=network.distribution.scaled,
        )
        if not columns.has_vocabularies:
            counts = sum_counts(each.symbols for each in facts)
            rules = {
                name: None if columns.vocabulary(name) else training.vocabulary
                for name in columns.symbols
            }
            columns = columns.with_vocabularies(vocabularies_of(rules, counts))
            scaler = scaler.with_indices(len(columns.symbols))
        return Fitted(network, columns, scaler, {"until": {each.key: each.until for each in facts}})

    def examples_of(
        self, item: Sequence, split: Split, columns: Columns, scaler: Scaler
    ) -> Iterator[tuple[bool, Place, bytes]]:
        """Yield the part of a sequence to learn from, then that of the validation set."""
        if self.training.class_weights is not None:
            item = class_weighted(item, self.training.class_weights)
        place = place_among_all(item)
        for held_back, half in enumerate(split.halves(item)):
            if half is not None:
                example = scaled(with_indices(half, columns), scaler)
                yield bool(held_back), place, encode_example(place, item.key, example)

    def initialize(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return the parameters to start training from."""
        network = self.network
        outputs = columns.target_size * network.horizons * len(network.parts)
        symbols, seed = columns.vocabulary_sizes, self.training.seed
        return network.initialize(columns.input_size, outputs, seed, symbols=symbols)

    def learn_batch(
        self,
        learner: Learner,
        rows: SequenceOf[int],
        examples: Examples,
        optimizer: Optimizer,
        random: np.random.Generator,
    ) -> tuple[Learner, float, float]:
        """Learn from a batch by truncated BPTT, part by part; the hidden states are carried on."""
        network, training, kernel = self.network, self.training, self.kernel
        loss = objective(network, training.loss)
        drawn_for = network, learner.parameters, len(rows), training, random
        masks, dropped = batches.draw_masks(*drawn_for), batches.draw_dropped_symbols(*drawn_for)
        parts = max(map(examples.parts, rows))
        states = None
        total = weight = 0.0
        steps = 0
        for part in range(parts):
            here = [i for i in rows if examples.parts(i) > part]
            batch = batch_of([examples.example(i, part) for i in here], batches.DTYPE)
            try:
                learner, losses, states = learn(
                    network,
                    learner,
                    batch._replace(x=batches.drop_symbols(batch.x, dropped)),
                    bptt=training.bptt,
                    loss=loss,
                    optimizer=optimizer,
                    clip_norm=training.clip_norm,
                    clip_value=training.clip_value,
                    masks=[mask.rows(len(here)) for mask in masks],
                    kernel=kernel,
                    states=None if states is None else first_rows(states, len(here)),
                    hand_on=part + 1 < parts,
                )
            except DivergenceError as error:
                raise error.placed(_place_of(error, examples, here, steps)) from error
            total += sum(window.loss * window.weight for window in losses)
            weight += sum(window.weight for window in losses)
            steps += len(batch.x)
        return learner, total, weight

    def loss(self, parameters: Parameters, examples: Examples) -> tuple[float, float]:
        """Return the loss of all steps, and the sum of their weights."""
        loss, size = objective(self.network, self.training.loss), self.training.batch_size
        return validation_loss(self.network, parameters, examples, loss, size, self.kernel)

    def to_model(
        self, parameters: Parameters, columns: Columns, scaler: Scaler, facts: Mapping[str, Any]
    ) -> Model:
        """Return the `Model`."""
        return Model(self.network, parameters, columns, scaler, facts, self.training.kernel)


def _place_of(error: DivergenceError, examples: Examples, rows: SequenceOf[int], steps: int) -> str:
    """The end of an error message: the key, if one is known, and the step after `steps` others."""
    if error.row is None:
        return batches.place_in(examples, rows)
    key = examples.key(rows[error.row])
    return f" at step {steps + error.step + 1} of a sequence of key {key!r}"


def _warn_of_outliers(found: SequenceOf[str], most: int = 3) -> None:
    for each in found[:most]:
        logger.warning(
            "%s: compared with it the other values hardly differ. If it is an error, remove the "
            "record, or use scaling='robust'",
            each,
        )
    if len(found) > most:
        logger.warning("and %d more outliers like it", len(found) - most)
