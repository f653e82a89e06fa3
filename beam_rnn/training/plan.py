"""What is trained, and how what is learned from is scaled and dealt out."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError, TrainingError
from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import PairColumns
from beam_rnn.data.scaling import Scaler
from beam_rnn.data.vocabulary import Vocabulary
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.losses import loss_name
from beam_rnn.nn.network import Network
from beam_rnn.training.example_store import Place
from beam_rnn.training.sequence_examples import for_columns
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import KeyFacts, together

logger = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What is trained, and how what is learned from is scaled and dealt out.

    Attributes:
        network: The network, for the horizons of the columns.
        columns: The columns of all sequences or pairs, with the vocabularies of their symbols.
        scaler: Fitted on what is learned from; None where there are only symbols.
        sequences: How many sequences, or pairs, there were.
        steps: How many steps are learned from.
        until: The time of the last record of each key that went into them, in microseconds.
        learned_places: (sequences learned from,) uint64, rising.
        held_back_places: (sequences judged by,) uint64, rising.
        longest_target: How many symbols the longest target of a pair has.
    """

    network: Network | EncoderDecoder
    columns: Columns | PairColumns
    scaler: Scaler | None
    sequences: int
    steps: int
    until: dict[str, int]
    learned_places: Array
    held_back_places: Array
    longest_target: int = 0

    def initialize(self, seed: int) -> dict[str, Array]:
        """Parameters to start training from."""
        network, columns = self.network, self.columns
        if isinstance(network, EncoderDecoder):
            assert isinstance(columns, PairColumns), "it was checked"
            return network.initialize(*columns.vocabulary_sizes, seed)
        assert isinstance(columns, Columns), "it was checked"
        outputs = columns.target_size * network.horizons * len(network.parts)
        symbols = columns.vocabulary_sizes
        return network.initialize(columns.input_size, outputs, seed, symbols=symbols)


def check_learns(
    network: Network | EncoderDecoder, columns: Columns | PairColumns
) -> tuple[Network, Columns] | None:
    """A network for sequences, and their columns; None for one for pairs, and theirs.

    Raises:
        ConfigurationError: One is for sequences, the other for pairs.
    """
    if isinstance(network, Network) and isinstance(columns, Columns):
        return network, columns
    if isinstance(network, EncoderDecoder) and isinstance(columns, PairColumns):
        return None
    kind, other = (
        ("pairs", "sequences") if isinstance(columns, PairColumns) else ("sequences", "pairs")
    )
    raise ConfigurationError(
        f"what is learned from is {kind}, of {columns}, but {network} learns {other}: Sequences "
        "goes with Network, Pairs with EncoderDecoder"
    )


def check_loss(network: Network | EncoderDecoder, training: Training) -> None:
    """That a network can be trained so.

    Raises:
        ConfigurationError: The loss does not fit the output, or there is a setting that an
            encoder-decoder does not have.
    """
    name = loss_name(network, training.loss)
    if isinstance(network, EncoderDecoder) and (name != "cross_entropy" or training.class_weights):
        raise ConfigurationError(
            f"an EncoderDecoder learns by loss='cross_entropy' without class_weights, got {name!r} "
            f"and {training.class_weights}"
        )


def plan_of(
    facts: Iterable[KeyFacts], network: Network | EncoderDecoder, training: Training
) -> Plan:
    """What is trained, from the facts of all keys, in any order.

    Raises:
        TrainingError: There is nothing to learn from, sequences are of different columns, or
            numbers cannot be scaled.
    """
    ordered = sorted(facts, key=lambda each: each.key)
    if not ordered:
        raise TrainingError(
            "there is nothing to learn from: no sequence has a step. A key needs more records in "
            "the training part than the horizon is long"
        )
    columns, *others = dict.fromkeys(columns for each in ordered for columns in each.columns)
    if others:
        raise TrainingError(f"sequences are of different columns: {columns} and {others}")
    sequences = sum(each.sequences for each in ordered)
    learned, held_back = (
        np.unique(np.concatenate([getattr(each, name) for each in ordered]))
        for name in ("learned_places", "held_back_places")
    )
    if training.validation and not (len(learned) and len(held_back)):
        raise TrainingError(
            f"validation={training.validation} leaves {len(learned)} sequences to learn from and "
            f"{len(held_back)} to validate on, of {sequences}: give more records"
        )
    rest = sequences, sum(each.steps for each in ordered)
    counts = together(each.symbols for each in ordered)
    of_sequences = check_learns(network, columns)
    if of_sequences is None:
        assert isinstance(columns, PairColumns), "it was checked"
        longest = max(each.longest for each in ordered)
        columns = _with_vocabularies_of_pairs(columns, counts, training)
        return Plan(network, columns, None, *rest, {}, learned, held_back, longest)
    network, columns = of_sequences
    network = for_columns(network, columns)
    statistics = {each.key: each.statistics for each in ordered if each.statistics is not None}
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
        columns = columns.with_vocabularies(_vocabularies(columns, counts, training))
        scaler = scaler.with_indices(len(columns.symbols))
    until = {each.key: each.until for each in ordered}
    return Plan(network, columns, scaler, *rest, until, learned, held_back)


def _warn_of_outliers(found: Sequence[str], most: int = 3) -> None:
    for each in found[:most]:
        logger.warning(
            "%s: beside it the others are nearly the same. If it is an error, leave it out, or "
            "take scaling='robust'",
            each,
        )
    if len(found) > most:
        logger.warning("and %d more like it", len(found) - most)


def _vocabularies(
    columns: Columns, counts: tuple[Counter[str], ...], training: Training
) -> dict[str, tuple[str, ...]]:
    """The symbols that get an index, for each field whose vocabulary is not known yet."""
    found = {}
    for name, of_field in zip(columns.symbols, counts, strict=True):
        if columns.vocabulary(name):
            continue
        found[name] = training.vocabulary.of(of_field)
        if not found[name]:
            raise TrainingError(
                f"no symbol of {name!r} is in {training.vocabulary}: the most frequent one is seen "
                f"{max(of_field.values(), default=0)} times"
            )
    return found


def _with_vocabularies_of_pairs(
    columns: PairColumns, counts: Sequence[Counter[str]], training: Training
) -> PairColumns:
    """The columns with the symbols of sources that get an index, and all those of targets."""
    found = {}
    for name, rule, of_field in zip(
        columns.fields, (training.vocabulary, Vocabulary()), counts, strict=True
    ):
        found[name] = rule.of(of_field)
        if not found[name]:
            raise TrainingError(
                f"no symbol of {name!r} is in {rule}: the most frequent one is seen "
                f"{max(of_field.values(), default=0)} times"
            )
    return columns.with_vocabularies(found)


def shard_of(place: Place, places: Array, shards: int) -> int:
    """The shard of a sequence: they are dealt out in the order of their places.

    Args:
        place: That of the sequence.
        places: Those of all, rising.
        shards: How many shards there are.
    """
    return int(np.searchsorted(places, np.uint64(place.sequence))) % shards
