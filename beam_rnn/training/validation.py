"""What is held back from training, and the loss on it."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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
"""What of a sequence is trained on, and what is validated on."""


@runtime_checkable  # Beam asks whether what a DoFn is given is one
class Split(Protocol):
    """Where the part that is held back begins."""

    def halves(self, sequence: Sequence) -> Halves:
        """What of a sequence is trained on, and what is validated on."""


class NoSplit:
    """Nothing is held back."""

    def halves(self, sequence: Sequence) -> Halves:
        """All of it, and nothing."""
        return sequence, None


@dataclass(frozen=True)
class SplitByTime:
    """The last steps of each key are held back, for a network with an output on every step.

    Training ends before the first target that is held back. A sequence that reaches into the part
    that is held back is validated on as a whole, with weight 0 on the steps before it: the hidden
    state is then what it is in a stream. Of a sequence in parts, the parts that reach into it are.

    Args:
        times: For each key the time of the first step that is held back.
    """

    times: Mapping[str, int]

    def halves(self, sequence: Sequence) -> Halves:
        """What of a sequence is trained on, and what is validated on."""
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
    """The time of the first of a key's steps that is held back.

    >>> split_time([np.array([10, 20, 30]), np.array([20, 30, 40])], 0.25)
    40

    Args:
        times: Those of the steps of each of its sequences, which may overlap.
        fraction: The share to hold back.
    """
    distinct = np.unique(np.concatenate(list(times)))
    return int(distinct[min(int(len(distinct) * (1 - fraction)), len(distinct) - 1)])


@dataclass(frozen=True)
class SplitByEnd:
    """The sequences that end last are held back, for a network with one output a sequence.

    A sequence of the same key that reaches into one of them is not trained on.

    Args:
        first: The end of the first that is held back, and its place among those of that end.
        begins: For each key that has some, when the first of them begins.
    """

    first: tuple[int, int]
    begins: Mapping[str, int]

    def halves(self, sequence: Sequence) -> Halves:
        """What of a sequence is trained on, and what is validated on."""
        if (sequence.until, place_of(sequence)) >= self.first:
            return None, sequence
        apart = sequence.until < self.begins.get(sequence.key, sequence.until + 1)
        return (sequence if apart else None), None


def split_by_end(ends: Iterable[tuple[int, int, str, int]], fraction: float) -> SplitByEnd:
    """The split of sequences.

    Args:
        ends: Of each sequence its end, its place, its key, and when it begins.
        fraction: The share to hold back.
    """
    by_end = sorted(ends)
    held_back = by_end[round(len(by_end) * (1 - fraction)) :]
    begins: dict[str, int] = {}
    for _, _, key, begin in held_back:
        begins[key] = min(begin, begins.get(key, begin))
    return SplitByEnd(held_back[0][:2] if held_back else (2**63, 0), begins)


def hold_back(
    sequences: Iterable[Sequence], fraction: float, network: Network
) -> tuple[list[Sequence], list[Sequence]]:
    """The sequences to train on, and those to validate on.

    Args:
        sequences: The sequences.
        fraction: The share to hold back.
        network: Says where the outputs are: see `SplitByTime` and `SplitByEnd`.
    """
    sequences = list(sequences)
    split = split_of(sequences, fraction, network)
    halves = [split.halves(sequence) for sequence in sequences]
    return [a for a, _ in halves if a is not None], [b for _, b in halves if b is not None]


def split_of(sequences: SequenceOf[Sequence], fraction: float, network: Network) -> Split:
    """Where the part that is held back begins; fraction 0 holds nothing back."""
    if fraction == 0:
        return NoSplit()
    if network.output_steps == "last":
        return split_by_end(map(end_of, sequences), fraction)
    times: dict[str, list[Array]] = {}
    for sequence in sequences:
        times.setdefault(sequence.key, []).append(sequence.times)
    return SplitByTime({key: split_time(each, fraction) for key, each in times.items()})


def end_of(sequence: Sequence) -> tuple[int, int, str, int]:
    """What `split_by_end` must know of a sequence."""
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
    """The sum of the losses of all steps that have one, and the sum of their weights.

    Args:
        network: The network.
        parameters: Its parameters.
        examples: The sequences.
        loss: (z, targets, weights) -> (loss, gradient).
        batch_size: How many sequences stand side by side.
        kernel: What computes the layers.
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
    """1 for each step that is in its sequence: (time, batch)."""
    return (np.arange(len(batch.x))[:, np.newaxis] < batch.lengths).astype(float)
