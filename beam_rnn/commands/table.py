"""What is printed as a table: rows, their cells one below the other."""

from collections.abc import Iterable, Iterator, Sequence

from beam_rnn.core.text import printable


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows as lines of text, their cells one below the other.

    >>> list(table([("a", "longer"), ("name", "b")]))
    ['a     longer', 'name  b']
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    wide = [
        max((len(row[i]) for row in shown if i < len(row) - 1), default=0)
        for i in range(max(map(len, shown), default=0))
    ]
    for *cells, last in shown:
        padded = [cell.ljust(wide[i]) for i, cell in enumerate(cells)]
        yield "  ".join([*padded, last])


def quoted(key: str) -> str:
    """A key as it is written in a row of keys: quoted where it would not be seen where it ends.

    >>> print(quoted("pump-1"), quoted("pump, old"))
    pump-1 'pump, old'
    """
    plain = key.isprintable() and not any(c in key for c in " ,;:'\"")
    return key if plain else repr(key)
