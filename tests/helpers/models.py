"""Small models for tests: of random weights, so that every gate has work to do."""

import numpy as np

from beam_rnn import weights
from beam_rnn.data.columns import Columns
from beam_rnn.data.scaling import Scaler
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.model import Model
from beam_rnn.nn.network import Network

COLUMNS = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"])


def random_model(network=None, columns=COLUMNS, seed=0):
    network = network or Network("gru", hidden=6, layers=2)
    inputs, targets = len(columns.inputs), len(columns.targets)
    outputs = targets * len(network.parts)
    random = np.random.default_rng(seed)
    parameters = {
        name: (value + 0.2 * random.standard_normal(value.shape)).astype(np.float32)
        for name, value in network.initialize(columns.input_size, outputs, seed).items()
    }
    values = {
        key: (random.normal(i, 1 + i, (9, inputs)), random.normal(i, 1 + i, (9, targets)))
        for i, key in enumerate("abc")
    }
    return Model(network, parameters, columns, Scaler.fit(values, columns))


def keyed_models(keys="ab", *, fallback=True, columns=COLUMNS, seed=10):
    """A random model for each key, and for all others."""
    models = {key: random_model(columns=columns, seed=seed + i) for i, key in enumerate(keys)}
    return KeyedModels.gathered(
        models, random_model(columns=columns, seed=seed + 99) if fallback else None
    )


def saved(model, tmp_path):
    path = tmp_path / "weights.arrow"
    weights.save(model, path)
    return str(path)
