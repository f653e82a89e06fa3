"""Damaged bytes for the tests of everything that reads bytes from outside.

A test gives the bytes of a good file to `mutated`, reads each of the results, and holds that the
reader raises the library's own error for it, or reads what was written:

    @pytest.mark.parametrize("count", COUNTS)
    def test_damaged_bytes_are_refused(count):
        for data in mutated(good, count):
            with contextlib.suppress(BeamRnnError):
                assert read(data) == written

The mutations of a seed are always the same ones, in the same order.
"""

import random

import pytest

COUNTS = [
    pytest.param(300, id="300"),
    pytest.param(2_000, id="2000", marks=pytest.mark.slow),
]
"""The number of mutations in the default run, and with the mark `slow`."""

_EXTREMES = [0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63)]


def mutated(data, count, seed=0):
    """Damaged copies of some bytes, none of them equal to the bytes.

    Each has one to three of: flipped bits, a cut end, a slice left out, random bytes inserted,
    a slice repeated elsewhere, and an extreme integer of 1, 2, 4 or 8 bytes, in either byte order.

    Args:
        data: The bytes, at least one.
        count: The number of copies.
        seed: Of the choice.
    """
    chance = random.Random(seed)
    while count:
        changed = data
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            changed = chance.choice(_KINDS)(changed, chance)
        if changed != data:
            count -= 1
            yield changed


def _flip(data, chance):
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data, chance):
    return data[: chance.randrange(len(data) + 1)]


def _leave_out(data, chance):
    start, stop = _slice(data, chance)
    return data[:start] + data[stop:]


def _insert(data, chance):
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.choice([1, 4, 8, 100])) + data[at:]


def _repeat(data, chance):
    start, stop = _slice(data, chance)
    at = chance.randrange(len(data) + 1)
    over = chance.choice([0, stop - start])  # inserted, or written over what is there
    return data[:at] + data[start:stop] + data[at + over :]


def _extreme(data, chance):
    size, order = chance.choice([1, 2, 4, 8]), chance.choice(["little", "big"])
    number = chance.choice(_EXTREMES) % (1 << 8 * size)
    at = chance.randrange(max(1, len(data) - size + 1))
    return data[:at] + number.to_bytes(size, order) + data[at + size :]


def _slice(data, chance):
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice([1, 4, 8, 64, 256]))


_KINDS = [_flip, _flip, _cut, _leave_out, _insert, _repeat, _extreme]
