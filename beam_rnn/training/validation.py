"""The validation set, and the loss on it."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.data.sequences import Batch, Sequence, batch_of, place_of
from beam_rnn.nn.backprop import first_rows, forward, initial_states
from beam_rnn.nn.bptt import judged
from beam_rnn.nn.kernels import NUMPY, Kernel
from beam_rnn.nn.losses import Loss
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.training.example_store import Examples

Halves = tuple[Sequence | None, Sequence | None]
"""The part of a sequence to train on, and the part to validate on; None if there is none."""
SPLITS = ("none", "time", "end")
"""How the validation set is split off: not at all, `SplitByTime`, or `SplitByEnd`."""


@runtime_checkable  # Beam checks the type of a DoFn's argument
class Split(Protocol):
    """Where the validation set begins."""

    def halves(self, sequence: Sequence) -> Halves:
        """Return the part of a sequence to train on, and the part to validate on."""


class NoSplit:
    """There is no validation set."""

    def halves(self, sequence: Sequence) -> Halves:
        """Return the whole sequence, and None."""
        return sequence, None


@dataclass(frozen=True)
class SplitByTime:
    """The last steps of each key are the validation set, for a network with an output every step.

    No target of the training part lies in the validation set. A sequence that reaches into the
    validation set is in it as a whole, with weight 0 on its earlier steps: the hidden state is then
    what it is in a stream. Of a sequence in parts, only the parts that reach into it are.

    Args:
        times: For each key the time of the first step of the validation set.
    """

    times: Mapping[str, int]

    def halves(self, sequence: Sequence) -> Halves:
        """Return the part of a sequence to train on, and the part to validate on."""
        split = self.times[sequence.key]
        furthest = sequence.columns.horizons[-1]
        beyond = np.full(min(furthest, len(sequence.times)), sequence.until)
        targets_at = np.concatenate([sequence.times[furthest:], beyond])
        learned = int(np.searchsorted(targets_at, split))
        known = int(np.searchsorted(sequence.times, split))
        return (
            _first_steps(sequence, learned, int(targets_at[learned - 1])) if learned else None,
            _without_weight_before(sequence, known) if known < len(sequence.times) else None,
        )


def split_time(times: Iterable[Array], fraction: float) -> int:
    """Return the time of a key's first step of the validation set.

    >>> split_time([np.array([10, 20, 30]), np.array([20, 30, 40])], 0.25)
    40

    Args:
        times: The times of the steps of each of its sequences, which may overlap.
        fraction: The share of the validation set.
    """
    distinct = np.unique(np.concatenate(list(times)))
    return int(distinct[min(int(len(distinct) * (1 - fraction)), len(distinct) - 1)])


@dataclass(frozen=True)
class SplitByEnd:
    """The sequences that end last are the validation set, for a network with one output each.

    A sequence of the same key that overlaps one of them is not trained on.

    Args:
        first: The end of the first of them, and its place among the sequences of that end.
        begins: For each key that has some, when the first of them begins.
    """

    first: tuple[int, int]
    begins: Mapping[str, int]

    def halves(self, sequence: Sequence) -> Halves:
        """Return the part of a sequence to train on, and the part to validate on."""
        if (sequence.until, place_of(sequence)) >= self.first:
            return None, sequence
        apart = sequence.until < self.begins.get(sequence.key, sequence.until + 1)
        return (sequence if apart else None), None


def split_by_end(ends: Iterable[tuple[int, int, str, int]], fraction: float) -> SplitByEnd:
    """Return the split of sequences.

    Args:
        ends: Of each sequence its end, its place, its key, and its begin.
        fraction: The share of the validation set.
    """
    by_end = sorted(ends)
    held_back = by_end[round(len(by_end) * (1 - fraction)) :]
    begins: dict[str, int] = {}
    for _, _, key, begin in held_back:
        begins[key] = min(begin, begins.get(key, begin))
    return SplitByEnd(held_back[0][:2] if held_back else (2**63, 0), begins)


def split_of(sequences: SequenceOf[Any], fraction: float, split_by: str) -> Split:
    """Return the split of all sequences, as one of `SPLITS` says."""
    if split_by == "none":
        return NoSplit()
    if split_by == "end":
        return split_by_end(map(end_of, sequences), fraction)
    times: dict[str, list[Array]] = {}
    for sequence in sequences:
        times.setdefault(sequence.key, []).append(sequence.times)
    return SplitByTime({key: split_time(each, fraction) for key, each in times.items()})


def end_of(sequence: Sequence) -> tuple[int, int, str, int]:
    """Return what `split_by_end` must know of a sequence."""
    return sequence.until, place_of(sequence), sequence.key, int(sequence.times[0])


def _first_steps(sequence: Sequence, steps: int, until: int) -> Sequence:
    return sequence._replace(
        times=sequence.times[:steps],
        inputs=sequence.inputs[:steps],
        targets=sequence.targets[:steps],
        until=until,
        weights=None if sequence.weights is None else sequence.weights[:steps],
        symbols=tuple(texts[:steps] for texts in sequence.symbols),
    )


def _without_weight_before(sequence: Sequence, step: int) -> Sequence:
    shape = len(sequence.times), len(sequence.columns.horizons)
    weights = np.ones(shape) if sequence.weights is None else sequence.weights.copy()
    weights[:step] = 0
    return sequence._replace(weights=weights)


def validation_loss(
    network: Network,
    parameters: Parameters,
    examples: Examples,
    loss: Loss,
    batch_size: int,
    kernel: Kernel = NUMPY,
) -> tuple[float, float]:
    """Return the weighted sum of the losses of all steps, and the sum of the weights.

    Args:
        network: The network.
        parameters: Its parameters.
        examples: The sequences.
        loss: (z, targets, weights) -> (loss, gradient).
        batch_size: The number of sequences in a batch.
        kernel: The kernel that computes the layers.
    """
    total = weight = 0.0
    lengths = examples.lengths
    by_length = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    dtype = parameters["layers.0.W_x"].dtype
    for first in range(0, len(by_length), batch_size):
        rows = by_length[first : first + batch_size]
        states = initial_states(network, parameters, len(rows))
        for part in range(max(map(examples.parts, rows))):
            here = [i for i in rows if examples.parts(i) > part]
            batch = batch_of([examples.example(i, part) for i in here], dtype)
            states = first_rows(states, len(here))
            z, states, _ = forward(
                network, parameters, batch.x, states, batch.lengths, kernel=kernel, keep=False
            )
            counts = _counts(batch)
            targets, weights = judged(network, batch, 0, len(batch.x), counts)
            total += loss(z, targets, weights)[0] * weights.sum()
            weight += weights.sum()
    return float(total), float(weight)


def _counts(batch: Batch) -> Array:
    """Return 1 for each step that is in its sequence, 0 for padding: (time, batch)."""
    return (np.arange(len(batch.x))[:, np.newaxis] < batch.lengths).astype(float)
