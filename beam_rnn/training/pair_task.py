"""Training on pairs of sequences: an `EncoderDecoder` and its `Transducer`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from beam_rnn.core.errors import ConfigurationError, DivergenceError
from beam_rnn.data.pair_columns import Pair, PairColumns, place_of_pair
from beam_rnn.data.sequences import Example
from beam_rnn.data.vocabulary import UNKNOWN, Vocabulary, indices
from beam_rnn.models.transducer import Transducer
from beam_rnn.nn.bptt import Learner
from beam_rnn.nn.encoder_decoder import EncoderDecoder, part_of
from beam_rnn.nn.kernels import Kernel
from beam_rnn.nn.losses import loss_name
from beam_rnn.nn.network import Parameters
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.nn.seq2seq import UNWRITABLE, batch_of_pairs, learn_pairs, loss_of_pairs
from beam_rnn.training import batches
from beam_rnn.training.example_store import Examples, Place, encode_example
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import Facts, KeyFacts, sum_counts, vocabularies_of
from beam_rnn.training.task import Fitted, wrong_items
from beam_rnn.training.validation import Split


@dataclass(frozen=True)
class PairTask:
    """An `EncoderDecoder` that learns from pairs: see `beam_rnn.training.task.Task`.

    Raises:
        ConfigurationError: Another loss than the cross-entropy, or class weights.
    """

    network: EncoderDecoder
    training: Training
    per_key: ClassVar[bool] = False
    split_by: ClassVar[str] = "none"  # the content of a pair decides

    def __post_init__(self) -> None:
        name, class_weights = self.training.loss, self.training.class_weights
        if loss_name(self.network, name) != "cross_entropy" or class_weights:
            raise ConfigurationError(
                "an EncoderDecoder learns by loss='cross_entropy' without class_weights, got "
                f"{name!r} and {class_weights}"
            )

    @property
    def kernel(self) -> Kernel:
        """The kernel that computes on this machine."""
        return batches.kernel_for(self.network.decoder, self.training)

    def has_steps(self, item: Pair) -> bool:
        """Return True: each target has an end, which is learned too."""
        if not isinstance(item.columns, PairColumns):
            raise wrong_items(self.network, item.columns)
        return True

    def facts_of(self, item: Pair, split: Split) -> Facts:  # noqa: ARG002
        """Return the facts of a pair; its steps are those of its target, and the end."""
        held_back = self._is_held_back(item)
        steps = len(item.target) + 1
        return Facts(
            item.columns,
            item.key,
            Place(place_of_pair(item), 0),
            0,
            0 if held_back else steps,
            steps if held_back else 0,
            None,
            () if held_back else (Counter(item.source), Counter(item.target)),
            len(item.target),
        )

    def _is_held_back(self, pair: Pair) -> bool:
        """Return True if a pair belongs to the validation set, which its content decides."""
        return place_of_pair(pair) < self.training.validation * 2**64

    def fitted(self, columns: PairColumns, facts: SequenceOf[KeyFacts]) -> Fitted:
        """Collect the vocabularies that are not given: that of targets holds all symbols."""
        rules = {
            name: None if known else rule
            for name, known, rule in zip(
                columns.fields,
                columns.vocabularies,
                (self.training.vocabulary, Vocabulary()),
                strict=True,
            )
        }
        found = vocabularies_of(rules, sum_counts(each.symbols for each in facts))
        longest = max(each.longest for each in facts)
        columns = columns.with_vocabularies(found)
        return Fitted(self.network, columns, None, {"until": {}, "longest_target": longest})

    def examples_of(
        self,
        item: Pair,
        split: Split,  # noqa: ARG002
        columns: PairColumns,
        scaler: None,  # noqa: ARG002
    ) -> Iterator[tuple[bool, Place, bytes]]:
        """Yield the one example of a pair: the indices of its symbols, (steps, 1) each.

        A symbol that a target cannot have is `UNWRITABLE`.
        """
        source, target = columns.vocabularies
        x = np.array(indices(item.source, source), np.float32)
        written = np.array(indices(item.target, target), np.float32)
        written[written == UNKNOWN] = UNWRITABLE
        example = Example(x[:, np.newaxis], written[:, np.newaxis])
        place = Place(place_of_pair(item), 0)
        yield self._is_held_back(item), place, encode_example(place, item.key, example)

    def initialize(self, columns: PairColumns) -> dict[str, np.ndarray]:
        """Return the parameters to start training from."""
        return self.network.initialize(*columns.vocabulary_sizes, self.training.seed)

    def learn_batch(
        self,
        learner: Learner,
        rows: SequenceOf[int],
        examples: Examples,
        optimizer: Optimizer,
        random: np.random.Generator,
    ) -> tuple[Learner, float, float]:
        """Learn from a batch by full BPTT."""
        training, size = self.training, len(rows)
        reads, writes = self.network.encoder, self.network.decoder
        encoder, decoder = (part_of(learner.parameters, part) for part in ("encoder", "decoder"))
        masks = (
            batches.draw_masks(reads, encoder, size, training, random),
            batches.draw_masks(writes, decoder, size, training, random),
        )
        dropped = batches.draw_dropped_symbols(reads, encoder, size, training, random)
        batch = batch_of_pairs([examples.example(i) for i in rows], batches.DTYPE)
        try:
            learner, (loss, weight) = learn_pairs(
                self.network,
                learner,
                batch._replace(x=batches.drop_symbols(batch.x, dropped)),
                optimizer=optimizer,
                clip_norm=training.clip_norm,
                clip_value=training.clip_value,
                masks=masks,
                kernel=self.kernel,
            )
        except DivergenceError as error:
            raise error.placed(batches.place_in(examples, rows)) from error
        return learner, loss * weight, weight

    def loss(self, parameters: Parameters, examples: Examples) -> tuple[float, float]:
        """Return the loss of all steps of targets, and their number."""
        size = self.training.batch_size
        total = weight = 0.0
        for first in range(0, len(examples), size):
            rows = range(first, min(first + size, len(examples)))
            batch = batch_of_pairs([examples.example(i) for i in rows], batches.DTYPE)
            loss, steps = loss_of_pairs(self.network, parameters, batch, self.kernel)
            total += loss
            weight += steps
        return total, weight

    def to_model(
        self,
        parameters: Parameters,
        columns: PairColumns,
        scaler: None,  # noqa: ARG002
        facts: Mapping[str, Any],
    ) -> Transducer:
        """Return the `Transducer`."""
        return Transducer(self.network, parameters, columns, facts, self.training.kernel)
