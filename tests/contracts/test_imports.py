"""`import beam_rnn` imports little more than `import apache_beam`."""

import json
import pickle
import subprocess
import sys

import beam_rnn

LOADED = """
import json, sys
import apache_beam
before = set(sys.modules)
import beam_rnn
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_unused_packages_are_not_imported():
    command = [sys.executable, "-c", LOADED]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603

    loaded = json.loads(said.splitlines()[-1])

    packages = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert packages <= {"apache_beam", "beam_rnn", "numpy", "pyarrow"}
    assert not [name for name in loaded if name.startswith("apache_beam.ml")]


def test_lazily_imported_names_are_available_like_the_others():
    names = {}
    exec("from beam_rnn import *", names)  # noqa: S102  # as a user writes it
    assert set(beam_rnn.__all__) <= names.keys()
    assert set(beam_rnn.__all__) <= set(dir(beam_rnn))
    assert not hasattr(beam_rnn, "NoSuchName")


def test_a_class_that_is_imported_when_it_is_used_can_be_pickled():
    assert pickle.loads(pickle.dumps(beam_rnn.RnnModelHandler)) is beam_rnn.RnnModelHandler  # noqa: S301
    assert pickle.loads(pickle.dumps(beam_rnn.ForecastDetector)) is beam_rnn.ForecastDetector  # noqa: S301
