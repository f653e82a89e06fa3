import json

import numpy as np
import pytest

from beam_rnn.data.columns import Columns
from beam_rnn.data.scaling import Scaler
from beam_rnn.errors import ConfigurationError

COLUMNS = Columns(key="id", inputs=["a", "b"], targets=["b", "c"])


def values(seed=0):
    random = np.random.default_rng(seed)
    return {
        key: (random.normal(mean, 2, (n, 2)), random.normal(-mean, 3, (n, 2)))
        for key, mean, n in (("x", 5, 40), ("y", 1e6, 7), ("z", 0, 200))
    }


def test_each_key_is_scaled_by_its_own_statistics():
    scaler = Scaler.fit(values(), COLUMNS)

    for key, (inputs, targets) in values().items():
        scaled = scaler.of(key).scale_inputs(inputs)
        np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-8)
        np.testing.assert_allclose(scaled.std(0), 1, atol=1e-8)
        np.testing.assert_allclose(scaler.of(key).scale_targets(targets)[:, 1].std(), 1)


def test_an_unknown_key_gets_the_scaling_of_all_keys():
    scaler = Scaler.fit(values(), COLUMNS)
    together = np.concatenate([inputs for inputs, _ in values().values()])

    np.testing.assert_allclose(scaler.of("new").inputs_center, together.mean(0))
    np.testing.assert_allclose(scaler.of("new").inputs_scale, together.std(0))
    of_all = Scaler.fit(values(), COLUMNS, "global").of("x")
    np.testing.assert_array_equal(of_all.inputs_scale, scaler.of("new").inputs_scale)


def test_a_target_that_is_an_input_is_scaled_as_the_input():
    scaling = Scaler.fit(values(), COLUMNS).of("x")

    assert scaling.targets_center[0] == scaling.inputs_center[1]
    assert scaling.targets_scale[0] == scaling.inputs_scale[1]
    assert scaling.targets_center[1] != scaling.inputs_center[1]


def test_restore_is_the_inverse_of_scale():
    scaling = Scaler.fit(values(), COLUMNS).of("y")
    targets = values()["y"][1]

    restored = scaling.restore_targets(scaling.scale_targets(targets))
    np.testing.assert_allclose(restored, targets, rtol=1e-12)


@pytest.mark.parametrize("scaling", ["standard", "min_max", "robust"])
@pytest.mark.parametrize("rows", [1, 50])
def test_a_key_that_never_changes_has_its_own_level_and_the_scale_of_all(rows, scaling):
    columns = Columns(key="id", inputs=["a"])
    off, on = np.full((rows, 1), 1e-5), 1e-5 * np.arange(1, 51.0)[:, np.newaxis]

    scaler = Scaler.fit({"off": (off, off), "on": (on, on)}, columns, scaling=scaling)

    for of_off, of_all, of_on in zip(
        scaler.of("off")[1::2], scaler.default[1::2], scaler.of("on")[1::2], strict=True
    ):
        assert of_off == of_all
        assert of_off == pytest.approx(of_on, rel=0.5)
    np.testing.assert_array_equal(scaler.of("off").scale_inputs(off), 0)


@pytest.mark.parametrize(
    ("level", "scale"), [(0.0, 1.0), (7.25, 7.25), (-1e-5, 1e-5), (1e30, 1e30), (5e-324, 5e-324)]
)
def test_the_scale_of_a_constant_series_is_its_level(level, scale):
    columns = Columns(key="id", inputs=["a"])
    constant = np.full((5, 1), level)

    scaling = Scaler.fit({"x": (constant, constant)}, columns).of("x")

    np.testing.assert_allclose(scaling.inputs_scale, scale, rtol=1e-12)
    np.testing.assert_allclose(scaling.scale_inputs(constant), 0, atol=1e-12)
    np.testing.assert_array_equal(scaling.inputs_scale, scaling.targets_scale)


def test_only_a_constant_input_gets_the_scale_of_all_keys():
    columns = Columns(key="id", inputs=["a", "b"], targets=["b"])
    random = np.random.default_rng(0)
    on, off = random.normal(size=(50, 2)), random.normal(size=(50, 2))
    off[:, 1] = 3.0

    scaler = Scaler.fit({"on": (on, on[:, 1:]), "off": (off, off[:, 1:])}, columns)

    np.testing.assert_allclose(scaler.of("off").inputs_scale[0], off[:, 0].std())
    assert scaler.of("off").inputs_scale[1] == scaler.default.inputs_scale[1]
    assert scaler.of("off").targets_scale == scaler.of("off").inputs_scale[1]


def test_none_leaves_numbers_as_they_are():
    scaling = Scaler.fit(values(), COLUMNS, "none").of("x")

    np.testing.assert_array_equal(scaling.scale_inputs(values()["x"][0]), values()["x"][0])


def test_json_keeps_every_bit():
    scaler = Scaler.fit(values(), COLUMNS)
    again = Scaler.from_json(json.loads(json.dumps(scaler.to_json())))

    for key in ("x", "y", "z", "new"):
        for left, right in zip(scaler.of(key), again.of(key), strict=True):
            np.testing.assert_array_equal(left, right)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigurationError, match="got 'robust'"):
        Scaler.fit(values(), COLUMNS, "robust")
