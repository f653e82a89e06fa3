"""PyTorch's numbers: forward, loss, gradients, optimisers and truncated BPTT."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from beam_rnn.data.sequences import Batch
from beam_rnn.interop import from_torch
from beam_rnn.nn.backprop import backward, forward, initial_states
from beam_rnn.nn.bptt import Bptt, Learner, learn
from beam_rnn.nn.kernels import kernel_of
from beam_rnn.nn.losses import mse, objective
from beam_rnn.nn.optimizers import Adam, AdamW, Sgd, clip_by_global_norm, global_norm

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.glob("torch-*"))
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
NAMES = {"W_x": "weight_ih", "W_h": "weight_hh", "b_x": "bias_ih", "b_h": "bias_hh"}


class Case:
    """One network that PyTorch ran, read by the importer."""

    def __init__(self, name, dtype, kernel):
        with np.load(GOLDEN / name / "arrays.npz") as arrays:
            self.arrays = {key: arrays[key] for key in arrays}
        state_dict = {
            key.removeprefix("param/"): value.astype(dtype)
            for key, value in self.arrays.items()
            if key.startswith("param/")
        }
        with tempfile.TemporaryDirectory() as folder:
            save_file(state_dict, f"{folder}/model.safetensors")
            activation = "relu" if "relu" in name else "tanh"
            model = from_torch(f"{folder}/model.safetensors", activation=activation)
        self.network, self.parameters = model.network, model.parameters
        self.kernel = kernel_of(kernel)
        self.model = model.with_kernel(kernel)
        self.dtype = np.dtype(dtype)
        self.tolerance = TOLERANCE[dtype]

    def named(self, prefix):
        """PyTorch's parameters under our names; its weights multiply from the left."""
        ours = {}
        for i in range(self.network.layers):
            for reverse in ("", "_reverse")[: self.network.directions]:
                for name, theirs in NAMES.items():
                    value = self.arrays[f"{prefix}rnn.{theirs}_l{i}{reverse}"]
                    ours[f"layers.{i}{reverse.replace('_', '.')}.{name}"] = value.T
        ours["head.W_y"] = self.arrays[f"{prefix}head.weight"].T
        ours["head.b_y"] = self.arrays[f"{prefix}head.bias"]
        return {name: np.ascontiguousarray(value) for name, value in ours.items()}

    def batch(self, ragged):
        steps = self.arrays["x"].shape[1]
        lengths = self.arrays["lengths"] if ragged else np.full(len(self.arrays["x"]), steps)
        order = np.argsort(-lengths, kind="stable")
        x, target = (self.arrays[k].astype(self.dtype)[order] for k in ("x", "target"))
        x[np.arange(steps) >= lengths[order][:, np.newaxis]] = 0
        return Batch(x.swapaxes(0, 1), target.swapaxes(0, 1), lengths[order])

    def assert_close(self, actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=self.tolerance)

    def assert_parameters_close(self, actual, expected):
        assert actual.keys() == expected.keys()
        for name in expected:
            self.assert_close(actual[name], expected[name])


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture(params=["float64 numpy", "float32 numpy", "float32 fused"])
def case(name, request):
    return Case(name, *request.param.split())


def test_every_case_is_here():
    assert len(CASES) == 16


def test_forward_over_full_sequences(case):
    outputs, state = case.model.run(case.arrays["x"])

    case.assert_close(outputs, case.arrays["full/prediction"])
    case.assert_close(last_h(case, state), case.arrays["full/h_n"])


def last_h(case, state):
    """h of each direction of each layer, (layers * directions, batch, hidden)."""
    parts = np.split(state, state.shape[1] // case.network.hidden, axis=1)
    return np.stack(parts[:: case.network.step_cell.states])


def test_forward_over_ragged_sequences(case):
    lengths = case.arrays["lengths"]
    outputs, state = case.model.run(case.arrays["x"], lengths)
    valid = np.arange(outputs.shape[1]) < lengths[:, np.newaxis]

    case.assert_close(outputs[valid], case.arrays["ragged/prediction"][valid])
    case.assert_close(last_h(case, state), case.arrays["ragged/h_n"])


def test_loss_and_gradient(case):
    batch = case.batch(ragged=True)
    states = initial_states(case.network, case.parameters, len(batch.lengths))
    y, _, trace = forward(
        case.network, case.parameters, batch.x, states, batch.lengths, kernel=case.kernel
    )
    loss, d_y = mse(y, batch.targets, Bptt().weights(0, len(y), batch.lengths))
    gradient = backward(case.network, case.parameters, trace, d_y, kernel=case.kernel)
    norm = float(case.arrays["ragged/grad_norm"])

    case.assert_close(loss, case.arrays["ragged/loss"])
    case.assert_close(global_norm(gradient), norm)
    clipped = case.named("ragged/clipped_grad/")
    case.assert_parameters_close(clip_by_global_norm(gradient, 0.05), clipped)
    # PyTorch clips by 0.05 / (norm + 1e-6), so this is its gradient before clipping.
    unclipped = {k: v * (norm + 1e-6) / 0.05 for k, v in clipped.items()}
    case.assert_parameters_close(gradient, unclipped)


@pytest.mark.parametrize(
    ("run", "optimizer"),
    [
        ("sgd5", Sgd(0.1, momentum=0.9)),
        ("adam5", Adam(0.01)),
        ("adamw5", AdamW(0.01, weight_decay=0.1)),
    ],
)
def test_five_updates(case, run, optimizer):
    learner = Learner(case.parameters, optimizer.init(case.parameters))
    losses = []
    for _ in range(5):
        learner, windows, _ = learn(
            case.network,
            learner,
            case.batch(ragged=True),
            bptt=Bptt(),
            loss=objective(case.network, "mse"),
            optimizer=optimizer,
            kernel=case.kernel,
        )
        losses += [window.loss for window in windows]

    case.assert_close(losses, case.arrays[f"{run}/losses"])
    case.assert_parameters_close(learner.parameters, case.named(f"{run}/param/"))


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("-bi")])
def test_truncated_bptt_carries_the_state_and_cuts_its_gradient(case):
    optimizer = Sgd(0.1)
    learner, windows, _ = learn(
        case.network,
        Learner(case.parameters, optimizer.init(case.parameters)),
        case.batch(ragged=False),
        bptt=Bptt(steps=3),
        loss=objective(case.network, "mse"),
        optimizer=optimizer,
        kernel=case.kernel,
    )

    case.assert_close([window.loss for window in windows], case.arrays["tbptt3/losses"])
    case.assert_parameters_close(learner.parameters, case.named("tbptt3/param/"))
