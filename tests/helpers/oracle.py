"""The expected results of `Predict`, from one forward pass over the sorted records of each key."""

import numpy as np

from beam_rnn.errors import RecordError
from beam_rnn.records.record_format import decode_records
from beam_rnn.records.record_reader import RecordReader


def expected(model, records):
    """{key: [(time, outputs)]} and {key: final state bytes}; bad records count for nothing.

    All keys stand in one padded batch, so that equal bits cannot come from equal batches.
    """
    reader, keys = RecordReader(model.columns), {}
    for record in records:
        try:
            key, data = reader.read(record)
        except RecordError:
            continue
        keys.setdefault(key, set()).add(data)
    names = sorted(keys)
    if not names:
        return {}, {}
    rows = [decode_records(sorted(keys[name])) for name in names]
    longest = max(len(times) for times, *_ in rows)
    x = np.zeros((len(names), longest, model.inputs))
    for i, (name, (times, *_, numbers)) in enumerate(zip(names, rows, strict=True)):
        x[i, : len(times)] = model.scaled(name, numbers)
    y, states = model.run(x, [len(times) for times, *_ in rows])
    predictions = {}
    for i, (name, (times, *_)) in enumerate(zip(names, rows, strict=True)):
        outputs = model.restored(name, y[i, : len(times)])
        predictions[name] = list(zip(times.tolist(), outputs.tolist(), strict=True))
    return predictions, {name: states[i].tobytes() for i, name in enumerate(names)}


def streamed(predictions):
    """The same of the rows that came out; steps must count from 1 without a gap."""
    keys = {}
    for row in sorted(predictions, key=lambda row: row.step):
        keys.setdefault(row.key, []).append(row)
    for rows in keys.values():
        assert [row.step for row in rows] == list(range(1, len(rows) + 1))
    outputs = {key: [(row.time, list(row.outputs)) for row in rows] for key, rows in keys.items()}
    return outputs, {key: rows[-1].state for key, rows in keys.items()}
