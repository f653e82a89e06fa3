"""What is trained: a `Model` on sequences, or a `Transducer` on pairs of them."""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any, NamedTuple, Protocol

import numpy as np

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import Pair, PairColumns
from beam_rnn.data.scaling import Scaler
from beam_rnn.data.sequences import Sequence
from beam_rnn.models.model import Model
from beam_rnn.models.transducer import Transducer
from beam_rnn.nn.bptt import Learner
from beam_rnn.nn.encoder_decoder import AnyNetwork
from beam_rnn.nn.kernels import Kernel
from beam_rnn.nn.network import Parameters
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.training.example_store import Examples, Place
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import Facts, KeyFacts
from beam_rnn.training.validation import Split

Item = Sequence | Pair
"""What a network learns from: many of them are the training data."""
Trained = Model | Transducer
"""The result of a training."""


class Fitted(NamedTuple):
    """What the training data decide before the first epoch.

    Attributes:
        network: The network, with the sizes that the columns decide.
        columns: The columns, with the vocabularies of their symbols.
        scaler: Fitted on the training part; None where there are only symbols.
        facts: What the model records of its data, as JSON values.
    """

    network: Any
    columns: Any
    scaler: Scaler | None
    facts: Mapping[str, Any]


class Task(Protocol):
    """A network, and how it is trained; `beam_rnn.training.plan.task_of` makes it.

    The methods are called in this order:

    1. `has_steps` and `facts_of` for each item, on any worker; `split_by` says which split they
       are given.
    2. `fitted` once, with the facts of all keys. From here on the task is that of the fitted
       network.
    3. `examples_of` for each item, on any worker.
    4. `initialize` once, unless the training starts from a model.
    5. `learn_batch` for each batch of each epoch, then `loss` on the validation set.
    6. `to_model` once, with the best parameters; before that with those of each checkpoint.

    Every method is a pure function of the task and its arguments: nothing is kept in between.

    Attributes:
        per_key: True if each key can have a model of its own.
    """

    per_key: bool

    @property
    def network(self) -> AnyNetwork:
        """What is trained."""

    @property
    def training(self) -> Training:
        """How it is trained."""

    @property
    def split_by(self) -> str:
        """How the validation set is split off: see `beam_rnn.training.validation.SPLITS`."""

    @property
    def kernel(self) -> Kernel:
        """The kernel that computes on this machine."""

    def has_steps(self, item: Any) -> bool:
        """Return True if an item has a step to learn from.

        Raises:
            ConfigurationError: The network does not learn from such items.
        """

    def facts_of(self, item: Any, split: Split) -> Facts:
        """Return the facts of an item that has steps.

        Raises:
            TrainingError: The loss cannot be computed for its targets.
            ConfigurationError: Network, loss and columns do not fit each other.
        """

    def fitted(self, columns: Any, facts: SequenceOf[KeyFacts]) -> Fitted:
        """Return what the data decide, from the facts of all keys, sorted by key.

        Raises:
            TrainingError: Numbers cannot be scaled, or a vocabulary would be empty.
            ConfigurationError: Network and columns do not fit each other.
        """

    def examples_of(
        self, item: Any, split: Split, columns: Any, scaler: Scaler | None
    ) -> Iterator[tuple[bool, Place, bytes]]:
        """Yield the encoded examples of an item that has steps.

        Args:
            item: The item.
            split: The split that `facts_of` was given.
            columns: Those of `fitted`.
            scaler: That of `fitted`.

        Yields:
            True if the example belongs to the validation set, its place, and its bytes.
        """

    def initialize(self, columns: Any) -> dict[str, np.ndarray]:
        """Return the parameters to start training from, as the seed gives them."""

    def learn_batch(
        self,
        learner: Learner,
        rows: SequenceOf[int],
        examples: Examples,
        optimizer: Optimizer,
        random: np.random.Generator,
    ) -> tuple[Learner, float, float]:
        """Learn from a batch.

        Args:
            learner: The parameters and the state of the optimiser.
            rows: The indices of the batch's examples, longest first.
            examples: All examples of the shard.
            optimizer: The optimiser, with the learning rate of this epoch.
            random: Draws the dropout masks.

        Returns:
            The learner after the batch, the weighted sum of the losses, the sum of the weights.

        Raises:
            DivergenceError: The loss, or a parameter, is not finite.
        """

    def loss(self, parameters: Parameters, examples: Examples) -> tuple[float, float]:
        """Return the weighted sum of the losses over all examples, and the sum of the weights."""

    def to_model(
        self, parameters: Parameters, columns: Any, scaler: Scaler | None, facts: Mapping[str, Any]
    ) -> Any:
        """Return the model of these parameters, with the facts about its training."""


def wrong_items(network: AnyNetwork, columns: Columns | PairColumns) -> ConfigurationError:
    """Return the error of a network that does not learn from items with these columns."""
    return ConfigurationError(
        f"{type(network).__name__} does not learn from items with {columns!r}: Sequences goes with "
        f"Network, Pairs with EncoderDecoder; got {network}"
    )
