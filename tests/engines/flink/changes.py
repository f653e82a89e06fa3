"""A plain loop for records of which another model takes over."""

from collections import defaultdict

from beam_rnn.testing import oracle

WINDOW = 8
"""How many inputs are replayed."""


def of_reset(model, before, after):
    """The new model's steps of sequences of their own."""
    return oracle(model, after, with_state=True).predictions


def of_replay(model, before, after):
    """The new model's steps after the last inputs; the steps are counted on."""
    taken = by_key(before)
    expected = []
    for key, records in by_key(after).items():
        window = taken[key][-WINDOW:]
        rows = oracle(model, window + records, with_state=True).predictions[len(window) :]
        more = len(taken[key]) - len(window)
        expected += [row._replace(step=row.step + more) for row in rows]
    return expected


def by_key(records):
    """Each key's records, by time."""
    keys = defaultdict(list)
    for record in sorted(records, key=lambda record: record["t"]):
        keys[record["id"]].append(record)
    return keys
