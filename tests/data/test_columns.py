import json
from datetime import date

import pytest

from beam_rnn.data.columns import Columns
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
        ({"horizon": "3"}, "horizon must be .* got '3'"),
        ({"horizon": []}, r"horizons must increase, got \[\]"),
        ({"horizon": [2, 1]}, r"horizons must increase, got \[2, 1\]"),
        ({"horizon": [1, 2.5]}, "horizon must be .* got 2.5"),
        ({"time_format": "hours"}, "time_format must be one of seconds, .* got 'hours'"),
        ({"time_format": "%H:%M"}, "a pattern with a year .* got '%H:%M'"),
        ({"time_format": "%Y %!"}, "got '%Y %!'"),
        ({"time_format": 5}, "got 5"),
        ({"time_format": "%Y-%m-%d %H:%M %Z"}, "%z instead of %Z.* got '%Y-%m-%d %H:%M %Z'"),
        ({"time_format": "%Y-%m-%d %I:%M"}, "%p needs %I.* got '%Y-%m-%d %I:%M'"),
        ({"time_format": "%Y%d"}, "got '%Y%d'"),
        ({"time_format": "%Y%W"}, "got '%Y%W'"),
        ({"latest": "soon"}, "latest must be a time such as '2100-01-01', got 'soon'"),
        ({"latest": "2100"}, "latest must be a time such as .* got '2100'"),
        ({"latest": [1]}, r"latest must be a time .* got \[1\]"),
        ({"weight": ""}, "weight must be the name of a column, got ''"),
        ({"classes": "ab"}, "classes must be a list, got 'ab'"),
        ({"classes": ["a"]}, r"at least two, all different, got \['a'\]"),
        ({"classes": ["a", "a"]}, "at least two, all different"),
        ({"classes": [1, "1"]}, "at least two, all different"),
        ({"classes": [0.5, 1.5]}, "a class must be text or a whole number, got 0.5"),
        (
            {"classes": ["a", "b"], "targets": ["c", "d"]},
            r"classes need exactly one target, got targets=\['c', 'd'\]",
        ),
    ],
)
def test_columns_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Columns(**{"key": "id", "inputs": ["a"]} | arguments)


def test_the_targets_are_the_inputs_unless_named():
    assert Columns(key="id", inputs=["a", "b"]).targets == ("a", "b")
    assert Columns(key="id", inputs=["a", "b"], targets=["c"]).targets == ("c",)


def test_one_horizon_in_a_list_is_that_horizon():
    assert Columns(key="id", inputs=["a"], horizon=[4]) == Columns(
        key="id", inputs=["a"], horizon=4
    )
    assert Columns(key="id", inputs=["a"], horizon=[4]).horizons == (4,)


def test_a_number_a_class_or_a_number_a_target():
    classes = Columns(key="id", inputs=["a"], targets=["b"], classes=["no", "yes", 3])
    assert (classes.target_size, classes.target_names) == (3, ("no", "yes", "3"))
    two = Columns(key="id", inputs=["a"], targets=["b", "c"])
    assert (two.target_size, two.target_names) == (2, ("b", "c"))


def test_json_round_trip():
    columns = Columns(key="id", time="t", inputs=["a"], targets=["b"], sequence="n", horizon=3)

    assert Columns(**json.loads(json.dumps(columns.to_json()))) == columns
    several = Columns(key="id", inputs=["a"], horizon=range(1, 4), weight="w")
    assert Columns(**json.loads(json.dumps(several.to_json()))) == several
    classes = Columns(key="id", inputs=["a"], targets=["b"], classes=["no", "yes"])
    assert Columns(**json.loads(json.dumps(classes.to_json()))) == classes
    plain = Columns(key="id", inputs=["a"])
    assert plain.to_json() == {"key": "id", "inputs": ["a"], "targets": ["a"]}


def test_the_format_and_the_latest_time_survive_json():
    columns = Columns(key="id", inputs=["a"], time_format="%Y", latest=date(2100, 1, 1))

    assert columns.to_json()["latest"] == "2100-01-01T00:00:00+00:00"
    assert Columns(**json.loads(json.dumps(columns.to_json()))) == columns
