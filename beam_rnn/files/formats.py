"""How a file is written, by its suffix: CSV, Parquet, Arrow or JSON lines."""

import os

from beam_rnn.core.errors import ConfigurationError

SUFFIXES = (".csv", ".parquet", ".arrow", ".jsonl")
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""What a file is compressed by, by the end of its name."""


def suffix(path: str) -> str:
    """The suffix that says how a file is written, without that of its compression.

    Raises:
        ConfigurationError: It is none of `SUFFIXES`.
    """
    plain = path if codec(path) is None else os.path.splitext(path)[0]
    ending = os.path.splitext(plain)[1].lower()
    if ending not in SUFFIXES:
        raise ConfigurationError(f"a file must end in one of {', '.join(SUFFIXES)}, got {path!r}")
    return ending


def codec(path: str) -> str | None:
    """What a file is compressed by; None if it is not.

    >>> codec("a.csv.gz"), codec("a.csv")
    ('gzip', None)
    """
    return CODECS.get(os.path.splitext(path)[1].lower())


def whole_suffix(path: str) -> str:
    """The suffix of a file that is compressed only if such files are.

    Raises:
        ConfigurationError: It is none of `SUFFIXES`, or such a file is not compressed as a whole.
    """
    ending = suffix(path)
    if ending in (".arrow", ".parquet") and not path.lower().endswith(ending):
        raise ConfigurationError(f"{ending} files are not compressed as a whole, got {path!r}")
    return ending
