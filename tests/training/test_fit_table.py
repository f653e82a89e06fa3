"""Models that are trained on tables: the weights of the transforms."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn import Columns, Network, Sequences, Train, Training, fit
from beam_rnn.data.sequences import Sequence
from beam_rnn.errors import ConfigurationError, RecordError, TrainingError
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.block_cutting import cut_block
from beam_rnn.records.cutting import cut
from beam_rnn.records.record_reader import RecordReader
from tests.helpers.engines import elements

COLUMNS = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"])
START = 1_500_000_000


def rows(count=120):
    return [
        {"id": "abc"[i % 3], "t": START + i // 2, "x": np.sin(i), "y": np.cos(3 * i), "w": i % 2}
        for i in range(count)
    ]


CASES = {
    "default": (COLUMNS, {}, {}),
    "cut": (COLUMNS, {"length": 7}, {"epochs": 2}),
    "pauses": (COLUMNS, {"idle_after": 1}, {}),
    "horizons": (
        Columns(key="id", time="t", inputs=["x"], horizon=(1, 3), weight="w", calendar=["day"]),
        {"length": 10},
        {"validation": 0.2},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_weights_are_those_of_the_transforms(name):
    columns, cutting, settings = CASES[name]
    network, training = Network("gru", hidden=5), Training(**{"epochs": 1, **settings})
    records = rows()
    (expected,) = elements(
        Sequences(columns, **cutting) | "Train" >> Train(network, training), records
    )
    np.random.default_rng(0).shuffle(records)

    model = fit(records, columns, network, training, **cutting)

    assert model.digest == expected.digest
    assert model.training["loss_curve"] == expected.training["loss_curve"]


def test_a_vocabulary_is_made_of_the_symbols_of_a_table():
    columns = Columns(key="id", time="t", inputs=["x"], targets=["x"], symbols=["state"])
    records = [row | {"state": "on" if i % 5 else "off"} for i, row in enumerate(rows())]
    network, training = Network("gru", hidden=5, embedding=2), Training(epochs=1)
    (expected,) = elements(Sequences(columns) | "Train" >> Train(network, training), records)

    assert fit(pa.Table.from_pylist(records), columns, network, training).digest == expected.digest


def test_records_that_cannot_be_used_are_an_error_or_left_out():
    records, network, training = rows(), Network("gru", hidden=3), Training(epochs=1)
    good = fit(records, COLUMNS, network, training)
    bad = [*records, records[0] | {"x": None}, {"id": "a", "t": 0, "x": 1.0}]
    with pytest.raises(
        RecordError, match="row 120: x is missing, got None; 1 more record cannot be used"
    ):
        fit(bad, COLUMNS, network, training)
    assert fit(bad, COLUMNS, network, training, invalid="skip").digest == good.digest
    symbols = Columns(key="id", time="t", inputs=["x"], symbols=["y"])
    with pytest.raises(RecordError, match="row 0: y must be"):
        fit(records, symbols, Network("gru", 3, embedding=2), training)
    with pytest.raises(ConfigurationError, match="invalid must be one of error, skip, got 'null'"):
        fit(records, COLUMNS, network, invalid="null")
    with pytest.raises(ConfigurationError, match="length must be a whole number"):
        fit(records, COLUMNS, network, length=0)
    with pytest.raises(TrainingError, match="there is nothing to learn from"):
        fit(records[:2], COLUMNS, network)


def test_it_imports_no_beam():
    code = """
import sys
from beam_rnn import Columns, Network, Training, fit
table = {"id": ["a"] * 20, "t": range(20), "x": [0.0, 1.0] * 10}
columns = Columns(key="id", time="t", inputs=["x"])
assert fit(table, columns, Network("gru", hidden=3), Training(epochs=1)).outputs == 1
assert "apache_beam" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


CUT = Columns(
    key="id", time="t", inputs=["x"], sequence="n", horizon=(1, 2), start="first", end="last"
)
records_of_keys = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from("ab"),
            "t": st.integers(0, 12),
            "n": st.sampled_from([0, 1]),
            "x": st.sampled_from([0.0, -0.0, 1.0, -1.5]),
            "first": st.sampled_from([False, False, False, True]),
            "last": st.sampled_from([False, False, False, True]),
        }
    ),
    max_size=40,
)


@settings(deadline=None)
@given(
    records=records_of_keys,
    length=st.sampled_from([None, 1, 3]),
    stride=st.sampled_from([None, 1, 2]),
    fraction=st.sampled_from([1.0, 0.6, 0.1]),
    idle_after=st.sampled_from([None, 1_000_000, 3_000_000]),
    carried=st.booleans(),
)
def test_a_block_is_cut_as_the_records_of_each_key(
    records, length, stride, fraction, idle_after, carried
):
    columns = CUT
    if carried:
        columns = Columns(key="id", time="t", inputs=["x"], sequence="n", missing="carry")
        records = [row | {"x": None if row["x"] == 1.0 else row["x"]} for row in records]
    reader, of_keys = RecordReader(columns, targets=True), {}
    for record in records:
        key, data = reader.read(record)
        of_keys.setdefault(key, []).append(data)
    settings = length, stride, fraction, idle_after
    expected = [each for key in of_keys for each in cut(key, of_keys[key], columns, *settings)]

    table = pa.Table.from_pylist(records, pa.schema(SCHEMA))
    block, _ = BatchReader(columns, targets=True).read(table, np.zeros(len(records), np.int64))
    found = list(cut_block(block, columns, *settings))

    assert sorted(map(plain, found)) == sorted(map(plain, expected))


SCHEMA = [
    ("id", pa.string()),
    ("t", pa.int64()),
    ("n", pa.int64()),
    ("x", pa.float64()),
    ("first", pa.bool_()),
    ("last", pa.bool_()),
]


def plain(sequence: Sequence):
    """A sequence as something that can be compared, bit for bit."""
    weights = b"" if sequence.weights is None else sequence.weights.tobytes()
    numbers = sequence.inputs.tobytes(), sequence.targets.tobytes(), weights
    return sequence.key, sequence.times.tolist(), *numbers, sequence.until
