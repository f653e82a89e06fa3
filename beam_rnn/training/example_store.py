"""Many examples in the order of their places, of which one is in memory at a time.

Between workers, and in the file of a worker, examples are bytes: a header, the key, then x and the
targets as float32 and the weights as float64. Targets have as many steps as x, unless they are
those of a pair of sequences.
"""

import struct
import tempfile
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.sequences import Example

_HEADER = struct.Struct("<QIIIIIIH")


class Place(NamedTuple):
    """The place of an example in the order of all; it does not depend on the runner."""

    sequence: int  # 64 bits of a hash of the sequence
    part: int  # 0 for the first part, or for a whole sequence


class Header(NamedTuple):
    """What is known of an example before its numbers are read."""

    place: Place
    steps: int
    key: str


def encode_example(place: Place, key: str, example: Example) -> bytes:
    """Return an example as bytes; numbers that overflow float32 become infinite.

    >>> example = Example(np.ones((3, 2)), np.zeros((3, 1)))
    >>> decode_header(encode_example(Place(7, 0), "a", example))
    Header(place=Place(sequence=7, part=0), steps=3, key='a')
    """
    steps, inputs = example.x.shape
    horizons = 0 if example.weights is None else example.weights.shape[1]
    name = key.encode()
    header = _HEADER.pack(*place, steps, inputs, *example.targets.shape, horizons, len(name))
    with default_arithmetic():
        numbers = [example.x.astype("<f4"), example.targets.astype("<f4")]
    if example.weights is not None:
        numbers.append(example.weights.astype("<f8"))
    return b"".join([header, name, *(array.tobytes() for array in numbers)])


def decode_header(data: bytes) -> Header:
    """Return the header of an encoded example."""
    sequence, part, steps, *_, size = _HEADER.unpack_from(data)
    name = data[_HEADER.size : _HEADER.size + size]
    return Header(Place(sequence, part), steps, bytes(name).decode())


def decode_example(data: bytes) -> Example:
    """Return the example: the inverse of `encode_example`. Its arrays are views of the bytes."""
    _, _, steps, inputs, written, targets, horizons, size = _HEADER.unpack_from(data)
    start = _HEADER.size + size
    arrays: list[Array] = []
    shapes = ((steps, inputs, "<f4"), (written, targets, "<f4"), (steps, horizons, "<f8"))
    for length, width, dtype in shapes:
        array = np.frombuffer(data, dtype, length * width, start)
        arrays.append(array.reshape(length, width))
        start += array.nbytes
    x, of_targets, weights = arrays
    return Example(x, of_targets, weights if horizons else None)


class Examples:
    """Examples in the order of their places; the parts of a sequence together.

        >>> example = Example(np.ones((3, 2)), np.zeros((3, 1)))
        >>> examples = Examples([encode_example(Place(7, i), "a", example) for i in (1, 0)])
        >>> len(examples), examples.parts(0), examples.lengths
        (1, 2, [6])

    Args:
        encoded: The examples, in any order.
        on_disk: Store them in a temporary file, which is deleted with this object, and read each
            when it is needed; else keep them in memory.
    """

    def __init__(self, encoded: Iterable[bytes], *, on_disk: bool = False):
        # The file has no name: it is deleted with this object.
        self._file = tempfile.TemporaryFile() if on_disk else None  # noqa: SIM115
        self._kept: list[bytes] = []
        headers = []
        end = 0
        for data in encoded:
            headers.append((decode_header(data), end if on_disk else len(self._kept), len(data)))
            end += len(data)
            if self._file is None:
                self._kept.append(data)
            else:
                self._file.write(data)
        if self._file is not None:
            self._file.flush()
        headers.sort(key=lambda row: row[0].place)
        # Equal places are equal sequences: each counts as a sequence of its own.
        runs = (list(run) for _, run in groupby(headers, key=lambda row: row[0].place.sequence))
        self._sequences = [sequence for run in runs for sequence in _apart(run)]

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def lengths(self) -> list[int]:
        """The number of steps of each sequence, its parts together."""
        return [sum(header.steps for header, _, _ in parts) for parts in self._sequences]

    @property
    def steps(self) -> int:
        """The number of steps of all sequences."""
        return sum(self.lengths)

    def key(self, i: int) -> str:
        """Return the key of sequence i."""
        return self._sequences[i][0][0].key

    def parts(self, i: int) -> int:
        """Return the number of parts of sequence i: 1 if it is whole."""
        return len(self._sequences[i])

    def example(self, i: int, part: int = 0) -> Example:
        """Return a part of sequence i."""
        _, at, size = self._sequences[i][part]
        if self._file is None:
            return decode_example(self._kept[at])
        self._file.seek(at)
        return decode_example(self._file.read(size))


def _apart(run: list[tuple[Header, int, int]]) -> list[list[tuple[Header, int, int]]]:
    """Return the equal sequences among examples of one hash, their parts in order."""
    copies = [list(same) for _, same in groupby(run, key=lambda row: row[0].place.part)]
    return [[same[i] for same in copies if i < len(same)] for i in range(max(map(len, copies)))]
