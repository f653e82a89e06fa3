import json

import pytest

from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": []}, "inputs must name at least one column"),
        ({"inputs": "value"}, "inputs must be a list of names, got 'value'"),
        ({"inputs": ["a", "a"]}, "inputs names a column twice"),
        ({"inputs": ["a", 3]}, r"got \['a', 3\]"),
        ({"key": ""}, "key must be the name of a column, got ''"),
        ({"key": None}, "got None"),
        ({"time": 5}, "time must be the name of a column, got 5"),
        ({"horizon": -1}, "horizon must be a whole number of at least 0, got -1"),
        ({"horizon": 1.5}, "got 1.5"),
    ],
)
def test_columns_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Columns(**{"key": "id", "inputs": ["a"]} | arguments)


def test_the_targets_are_the_inputs_unless_named():
    assert Columns(key="id", inputs=["a", "b"]).targets == ("a", "b")
    assert Columns(key="id", inputs=["a", "b"], targets=["c"]).targets == ("c",)


def test_json_round_trip():
    columns = Columns(key="id", time="t", inputs=["a"], targets=["b"], sequence="n", horizon=3)

    assert Columns(**json.loads(json.dumps(columns.to_json()))) == columns
    plain = Columns(key="id", inputs=["a"])
    assert plain.to_json() == {"key": "id", "inputs": ["a"], "targets": ["a"]}
