"""The state of online learning of a key, and its bytes; the only module that knows this format.

Version, kernel, digest of the base model, steps, times of the first and the last step and the last
sequence number, as in `beam_rnn.records.record_format`, so that the place of a key is read in the
same way; then the fingerprint of the settings, the numbers of stored steps and records, and every
number of a `Learned`: whole numbers as int64, others as they are, little-endian.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.models.state_format import STORED_KERNELS
from beam_rnn.nn.bptt import Learner
from beam_rnn.training.online.gate import Evidence
from beam_rnn.training.online.running_scaler import Running, Statistics
from beam_rnn.training.online.settings import Learning, settings_of

LEARNED_VERSION = 0x82  # distinguishes it from a state of `Predict`
_HEADER = struct.Struct("<BB32sqqqqII8sII")


class Recent(NamedTuple):
    """The last steps of a sequence, which are still to be learned from."""

    x: Array  # (steps, inputs) float32, scaled
    offset: Array  # (steps, horizons * targets) float64: a target is offset + scale * z
    scale: Array  # (steps, horizons * targets) float64
    known: Array  # (steps,) float64: 1 if there was a deviation to scale by, else 0
    z: Array  # (steps, outputs) float32, of the learned model
    base_z: Array  # (steps, outputs) float32, of the base model; (steps, 0) without a gate
    chosen: Array  # (steps,) float64: 1 if the learned model was the gate's choice, else 0
    values: Array  # (records, targets) float64, their targets, logarithms if asked for; weights


class Learned(NamedTuple):
    """The state of a key.

    Attributes:
        learner: The parameters, and the optimiser's state.
        updates: The number of updates of the key.
        refused: The number of updates that were refused because they overflowed.
        restarts: The number of restarts from the base model.
        statistics: Those of inputs and targets; of no columns if the base model's scaler is used.
        evidence: What the gate decides by.
        steps: The number of steps of the sequence.
        start: The first step of the next window to learn from.
        carry: (state_size,) float32, the hidden state before that step.
        h: (state_size,) float32, the hidden state after the last step.
        base_h: The same of the base model; (0,) without a gate.
        recent: The last steps.
        outputs: (outputs,) float64, of the last step, in the targets' units.
        made_by: The number of updates of the parameters that gave them; 0 for the base model.
    """

    learner: Learner
    updates: int
    refused: int
    restarts: int
    statistics: Statistics
    evidence: Evidence
    steps: int
    start: int
    carry: Array
    h: Array
    base_h: Array
    recent: Recent
    outputs: Array
    made_by: int


def name_of(digest: str, updates: int) -> str:
    """Return the model's name in a prediction: the base's digest, and the number of updates.

    >>> name_of("3f", 0), name_of("3f", 12)
    ('3f', '3f+12')
    """
    return f"{digest}+{updates}" if updates else digest


class Place(NamedTuple):
    """The place of a key in its sequence, and what its state was computed with.

    Attributes:
        digest: The base model.
        kernel: The kernel: "numpy" or "fused".
        fingerprint: That of the settings that the bytes depend on: see `fingerprint_of`.
        first_time: The event time of the sequence's first step, in microseconds since 1970.
        time: The event time of the last step.
        sequence: Its sequence number.
    """

    digest: str
    kernel: str
    fingerprint: bytes
    first_time: int
    time: int
    sequence: int


def fingerprint_of(learning: Learning, running: Running | None) -> bytes:
    """Return eight bytes that differ if stored state would have another meaning."""
    settings = json.dumps(settings_of(learning, running))
    return hashlib.sha256(settings.encode()).digest()[:8]


def encode_learned(place: Place, learned: Learned) -> bytes:
    """Return the bytes of a key's place and of its state."""
    header = _HEADER.pack(
        LEARNED_VERSION,
        STORED_KERNELS.index(place.kernel),
        bytes.fromhex(place.digest),
        learned.steps,
        place.first_time,
        place.time,
        place.sequence,
        len(learned.h),
        len(learned.outputs),
        place.fingerprint,
        len(learned.recent.x),
        len(learned.recent.values),
    )
    return b"".join([header, *_pieces(learned)])


def _pieces(tree: Any) -> Iterator[bytes]:
    """Yield every number of a tree of tuples and dicts, in its order."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple):
        for part in tree:
            yield from _pieces(part)
    elif isinstance(tree, int):
        yield struct.pack("<q", tree)
    elif isinstance(tree, float):
        yield struct.pack("<d", tree)
    else:
        yield tree.astype(tree.dtype.newbyteorder("<"), copy=False).tobytes()


def decode_learned(data: bytes, like: Learned, here: Place) -> tuple[Place, Learned]:
    """Return a key's place and its state: the inverse of `encode_learned`.

    Args:
        data: The bytes.
        like: The state of a key that has learned nothing, for the types and the shapes.
        here: The model, the kernel and the settings of this job.

    Raises:
        StateError: Another version, a wrong length, or another model, kernel or settings.
    """
    version = data[:1].hex() or None
    if version != f"{LEARNED_VERSION:02x}":
        raise StateError(
            f"stored state of what was learned has format version {version}, this beam_rnn reads "
            f"{LEARNED_VERSION:02x}"
        )
    if len(data) < _HEADER.size:
        raise StateError(
            f"stored state of what was learned has {len(data)} bytes, its header alone has "
            f"{_HEADER.size}"
        )
    _, kernel, digest, _, first_time, time, sequence, *_, fingerprint, steps, records = (
        _HEADER.unpack_from(data)
    )
    name = STORED_KERNELS[kernel] if kernel < len(STORED_KERNELS) else str(kernel)
    place = Place(digest.hex(), name, fingerprint, first_time, time, sequence)
    if place[:3] != here[:3]:
        raise StateError(
            f"stored state was learned from the model {place.digest} with the kernel {name} and "
            f"settings of fingerprint {fingerprint.hex()}, here are {here.digest}, {here.kernel} "
            f"and {here.fingerprint.hex()}: go on with the old weights, kernel and settings, or "
            "start the job without its old state"
        )
    rows = [steps] * (len(like.recent) - 1) + [records]
    none = like._replace(recent=Recent._make(part[:0] for part in like.recent))
    size = _HEADER.size + _size(none)
    for n, part in zip(rows, like.recent, strict=True):
        size += n * math.prod(part.shape[1:]) * part.itemsize
    if len(data) != size:
        raise StateError(
            f"stored state of what was learned has {len(data)} bytes, one of {steps} steps and "
            f"{records} records has {size}"
        )
    recent = Recent._make(
        np.empty((n, *part.shape[1:]), part.dtype)
        for n, part in zip(rows, like.recent, strict=True)
    )
    return place, _Reader(data).read(like._replace(recent=recent))


def _size(tree: Any) -> int:
    """Return the number of bytes of `_pieces`."""
    if isinstance(tree, np.ndarray):
        return tree.nbytes
    if isinstance(tree, dict):
        tree = tree.values()
    return 8 if isinstance(tree, (int, float)) else sum(map(_size, tree))


class _Reader:
    """Reads numbers in the order of `_pieces`."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = _HEADER.size

    def read(self, like: Any) -> Any:
        """Return the next numbers, in the form of this tree."""
        if isinstance(like, dict):
            return {name: self.read(value) for name, value in like.items()}
        if isinstance(like, tuple):
            parts = [self.read(value) for value in like]
            return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
        if isinstance(like, np.ndarray):
            stored = like.dtype.newbyteorder("<")
            values = np.frombuffer(self._data, stored, like.size, self._at)
            self._at += like.nbytes
            return values.reshape(like.shape).astype(like.dtype)  # a copy, aligned
        (number,) = struct.unpack_from(
            "<q" if isinstance(like, int) else "<d", self._data, self._at
        )
        self._at += 8
        return number
