"""Compare the cells with PyTorch, ONNX Runtime and this machine's matrix product.

    python -m benchmarks.kernels [--quick] [--json FILE]

One thread each; a peer that is not installed is skipped. `step`: one step of a batch from a given
hidden state. `forward`: sequences of 32 steps. `train`: forward and backward pass of a window of 32
steps with the squared error, and an update by Adam. The figures are microseconds per call, with 8
inputs and one output. `peak` is the time that the multiplications of `forward` alone would take at
the machine's rate, measured by a numpy product of two 1024 x 1024 matrices.
"""

import argparse
import importlib.util
import os
import tempfile

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from beam_rnn import Model, Network
from beam_rnn.data.sequences import Batch
from beam_rnn.nn.bptt import Bptt, Learner, learn
from beam_rnn.nn.kernels import kernel_of
from beam_rnn.nn.losses import objective
from beam_rnn.nn.optimizers import Adam
from benchmarks.table import Row, medians, show

INPUTS, STEPS = 8, 32
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
Call = Callable[[], object]


def repeated(call: Call, seconds: float) -> tuple[Call, int]:
    """Return a function that repeats the call for some seconds, and the number of repeats."""
    (once,) = medians([call], 3)
    times = max(1, int(seconds / max(once, 1e-7)))

    def run() -> None:
        for _ in range(times):
            call()

    return run, times


class Torch:
    """PyTorch's own cells and layers."""

    def __init__(self, cell: str, hidden: int):
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        name = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}[cell]
        torch.manual_seed(0)
        self._cell = getattr(torch.nn, f"{name}Cell")(INPUTS, hidden)
        self._layer = getattr(torch.nn, name)(INPUTS, hidden)
        self._head = torch.nn.Linear(hidden, 1)
        self._lstm = cell == "lstm"
        self._hidden = hidden

    def step(self, batch: int) -> Call:
        """Return a call of one step and the head."""
        torch = self._torch
        x, h = torch.randn(batch, INPUTS), torch.zeros(batch, self._hidden)
        state = (h, h.clone()) if self._lstm else h

        def call() -> object:
            with torch.inference_mode():
                following = self._cell(x, state)
                return self._head(following[0] if self._lstm else following)

        return call

    def forward(self, batch: int) -> Call:
        """Return a call of a batch of sequences and the head."""
        torch = self._torch
        x = torch.randn(STEPS, batch, INPUTS)

        def call() -> object:
            with torch.inference_mode():
                return self._head(self._layer(x)[0])

        return call

    def train(self, batch: int) -> Call:
        """Return a call of a training step: forward, backward, update."""
        torch = self._torch
        x, y = torch.randn(STEPS, batch, INPUTS), torch.randn(STEPS, batch, 1)
        parameters = [*self._layer.parameters(), *self._head.parameters()]
        optimizer = torch.optim.Adam(parameters)

        def call() -> object:
            optimizer.zero_grad()
            loss = ((self._head(self._layer(x)[0]) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return call


class OnnxRuntime:
    """The same network as an ONNX file, run by ONNX Runtime."""

    def __init__(self, model: Model):
        import onnxruntime

        from beam_rnn.interop import to_onnx

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.onnx"
            to_onnx(model, path)
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        self._names = [argument.name for argument in self._session.get_inputs()]

    def run(self, batch: int, steps: int) -> Call:
        """Return a call of a batch of sequences."""
        feeds: dict[str, Any] = {}
        for argument in self._session.get_inputs():
            if argument.name == self._names[0]:
                feeds[argument.name] = (
                    np.random.default_rng(0)
                    .standard_normal((batch, steps, INPUTS))
                    .astype(np.float32)
                )
            else:
                feeds[argument.name] = np.full(batch, steps, np.int32)
        return lambda: self._session.run(None, feeds)


def ours(model: Model, what: str, batch: int) -> Call:
    """Return the same call with the fused kernel."""
    random = np.random.default_rng(0)
    if what == "step":
        x = random.standard_normal((batch, INPUTS)).astype(np.float32)
        state = model.initial_state(batch)
        return lambda: model.step(state, x)
    x = random.standard_normal((batch, STEPS, INPUTS)).astype(np.float32)
    if what == "forward":
        return lambda: model.forward(x)
    targets = random.standard_normal((STEPS, batch, 1)).astype(np.float32)
    held = Batch(np.ascontiguousarray(x.swapaxes(0, 1)), targets, np.full(batch, STEPS))
    optimizer = Adam()
    learner = Learner(model.parameters, optimizer.init(model.parameters))
    kernel = kernel_of(model.kernel)

    def call() -> object:
        nonlocal learner
        learner, losses, _ = learn(
            model.network,
            learner,
            held,
            bptt=Bptt(steps=STEPS),
            loss=objective(model.network),
            optimizer=optimizer,
            kernel=kernel,
        )
        return losses

    return call


def peak() -> float:
    """Return the machine's rate in floating-point operations per microsecond."""
    a = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    run, times = repeated(lambda: a @ a, 0.1)
    return 2 * 1024**3 * times / medians([run], 5)[0] / 1e6


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    cells, sizes, batches = ["rnn", "gru", "lstm"], [32, 64, 128, 256, 512], [1, 32, 64, 1024]
    if args.quick:
        cells, sizes, batches = ["gru"], [64, 256], [1, 64]
    seconds, repeat = (0.01, 5) if args.quick else (0.03, 7)
    peers = {name for name in ("torch", "onnxruntime") if importlib.util.find_spec(name)}
    rows = []
    for cell, hidden in product(cells, sizes):
        network = Network(cell, hidden)
        model = Model(network, network.initialize(INPUTS, 1, seed=0), kernel="fused")
        torch = Torch(cell, hidden) if "torch" in peers else None
        onnxruntime = OnnxRuntime(model) if "onnxruntime" in peers else None
        for what, batch in product(("step", "forward", "train"), batches):
            if what == "train" and batch in (1, 1024):
                continue
            runs = {"": ours(model, what, batch)}
            if torch is not None:
                runs["torch"] = getattr(torch, what)(batch)
            if onnxruntime is not None and what != "train":
                runs["onnxruntime"] = onnxruntime.run(batch, 1 if what == "step" else STEPS)
            calls = {name: repeated(call, seconds) for name, call in runs.items()}
            taken = medians([run for run, _ in calls.values()], repeat)
            each = {
                name: 1e6 * total / times
                for (name, (_, times)), total in zip(calls.items(), taken, strict=True)
            }
            case = f"{what}/{cell}/H{hidden}/B{batch}"
            rows += [Row(case, each[""], peer, us) for peer, us in each.items() if peer]
            if what == "forward":
                flops = 2 * GATES[cell] * hidden * (hidden + INPUTS) * STEPS * batch
                rows.append(Row(case, each[""], "peak", flops / peak()))
    show(rows, args.json)


if __name__ == "__main__":
    main()
