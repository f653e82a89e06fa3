"""The formats of files, by suffix: CSV, Parquet, Arrow or JSON lines, and their compression."""

import os

from beam_rnn.core.errors import ConfigurationError

SUFFIXES = (".csv", ".parquet", ".arrow", ".jsonl")
"""The suffixes of files of records: each has a reader in `read` and a writer in `write`."""
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""The compression of a file, by the end of its name."""


def suffix(path: str) -> str:
    """Return the suffix that decides the format of a file, without that of its compression.

    Raises:
        ConfigurationError: It is none of `SUFFIXES`.
    """
    plain = path if codec(path) is None else os.path.splitext(path)[0]
    ending = os.path.splitext(plain)[1].lower()
    if ending not in SUFFIXES:
        raise ConfigurationError(f"a file must end in one of {', '.join(SUFFIXES)}, got {path!r}")
    return ending


def codec(path: str) -> str | None:
    """Return the compression of a file; None if it has none.

    >>> codec("a.csv.gz"), codec("a.csv")
    ('gzip', None)
    """
    return CODECS.get(os.path.splitext(path)[1].lower())


def whole_suffix(path: str) -> str:
    """Return the suffix of a file, which is compressed only if its format allows that.

    Raises:
        ConfigurationError: It is none of `SUFFIXES`, or a compressed Arrow or Parquet file.
    """
    ending = suffix(path)
    if ending in (".arrow", ".parquet") and not path.lower().endswith(ending):
        raise ConfigurationError(f"{ending} files are not compressed as a whole, got {path!r}")
    return ending
