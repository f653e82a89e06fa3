"""External merge sort: sorts more texts than fit in memory."""

import contextlib
import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from typing import IO

RUN = 500_000
"""Number of texts that are sorted in memory at a time."""

_SIZE = struct.Struct("<I")


@contextlib.contextmanager
def sorted_on_disk(texts: Iterable[bytes], run: int = RUN) -> Iterator[tuple[Iterator[bytes], int]]:
    """Yield the distinct texts in order, and their number.

        >>> with sorted_on_disk([b"b", b"c", b"a", b"b"], run=2) as (ordered, count):
        ...     print(count, *ordered)
        3 b'a' b'b' b'c'

    Args:
        texts: The texts.
        run: Number of texts in memory at a time.
    """
    texts = iter(texts)
    first = sorted(set(islice(texts, run)))
    following = list(islice(texts, 1))
    if not following:  # no file is needed
        yield iter(first), len(first)
        return
    texts = chain(first, following, texts)
    del first
    with ExitStack() as files:
        runs = []
        while some := set(islice(texts, run)):
            file = files.enter_context(tempfile.TemporaryFile())
            _write(file, sorted(some))
            runs.append(file)
        merged = files.enter_context(tempfile.TemporaryFile())
        count = _write(merged, _distinct(heapq.merge(*map(_read, runs))))
        yield _read(merged), count


def _write(file: IO[bytes], texts: Iterable[bytes]) -> int:
    count = 0
    for text in texts:
        file.write(_SIZE.pack(len(text)) + text)
        count += 1
    return count


def _read(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while size := file.read(_SIZE.size):
        yield file.read(*_SIZE.unpack(size))


def _distinct(ordered: Iterable[bytes]) -> Iterator[bytes]:
    before = None
    for text in ordered:
        if text != before:
            yield text
        before = text
