"""Settings of other libraries in the process do not change results."""

import ctypes
import platform
import sys

import apache_beam as beam
import numpy as np
import pytest

from beam_rnn import Columns, Model, Network, Predict, weights
from beam_rnn.core import floating_point as arithmetic
from beam_rnn.core.floating_point import default_arithmetic, is_default
from beam_rnn.errors import ConfigurationError
from tests.helpers.engines import Outputs, run

x86 = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="sets the modes of x86-64"
)
FLUSH = 0x8040  # FTZ and DAZ of MXCSR
UPWARD = 0x4000  # its rounding


def set_modes(bits):
    """As another library may, for the rest of this thread."""
    library, modes = ctypes.CDLL(None), (ctypes.c_uint32 * 16)()
    library.fegetenv(modes)
    modes[7] |= bits
    library.fesetenv(modes)


@pytest.fixture(autouse=True)
def modes_put_back():
    errors = np.geterr()
    yield
    np.seterr(**errors)
    if sys.platform == "linux":
        ctypes.CDLL(None).fesetenv(ctypes.c_void_p(-1))


class Other(beam.DoFn):
    """A library of the user's own, which runs in the thread that predicts."""

    def __init__(self, bits=0, numpy="warn"):
        self._bits, self._numpy = bits, numpy

    def process(self, record):
        np.seterr(all=self._numpy)
        if self._bits:
            set_modes(self._bits)
        yield record


def predicted(path, values, other, **settings):
    """Predict values after another library changed the floating-point modes."""
    records = [{"id": "k", "t": t, "x": value} for t, value in enumerate(values)]
    transform = Predict(path, order="arrival", with_state=True, **settings)

    def build(pipeline):
        created = pipeline | beam.Create(records, reshuffle=False) | beam.ParDo(other)
        return Outputs(created | transform)

    return run(build)[0]


def saved(folder, scale=1.0, **settings):
    """The path of a model of one input."""
    network = Network("rnn", hidden=4, **settings)
    parameters = {name: scale * value for name, value in network.initialize(1, 1, seed=0).items()}
    path = str(folder / "weights.arrow")
    weights.save(Model(network, parameters, Columns(key="id", time="t", inputs=["x"])), path)
    return path


@x86
@pytest.mark.parametrize("bits", [FLUSH, UPWARD], ids=["flush", "rounding"])
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_the_modes_of_another_library_change_no_state(kernel, bits, tmp_path):
    path = saved(tmp_path, scale=0.1)
    impulse = [1.0] + [0.0] * 59

    expected = predicted(path, impulse, Other(), kernel=kernel).predictions
    numbers = np.abs(np.frombuffer(b"".join(row.state for row in expected), np.float32))
    assert ((numbers > 0) & (numbers < np.finfo(np.float32).tiny)).any()
    assert predicted(path, impulse, Other(bits), kernel=kernel).predictions == expected


@x86
def test_the_modes_of_another_library_are_put_back():
    set_modes(FLUSH)

    with default_arithmetic():
        assert is_default()
    assert not is_default()


@x86
def test_modes_that_cannot_be_set_are_an_error(monkeypatch):
    monkeypatch.setattr(arithmetic.sys, "platform", "elsewhere")
    set_modes(FLUSH)

    with pytest.raises(ConfigurationError, match="set_flush_denormal"), default_arithmetic():
        pass


def test_an_overflow_is_a_dead_letter_even_if_numpy_raises(tmp_path):
    path = saved(tmp_path, scale=1e3, activation="relu")
    values = [1e-40, 3e38, 1.0]

    expected = predicted(path, values, Other(), kernel="numpy")
    (letter,) = expected.invalid
    assert "overflowed" in letter.reason
    again = predicted(path, values, Other(numpy="raise"), kernel="numpy")
    assert again.predictions == expected.predictions
    assert again.invalid == expected.invalid
