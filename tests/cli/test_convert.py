"""`beam-rnn convert`: from one format into another, and what a person is told."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from beam_rnn import Columns, Model, Network, interop
from beam_rnn import weights as weights_file
from beam_rnn.cli import main as command
from beam_rnn.cli import predict
from beam_rnn.cli.console import run
from beam_rnn.cli.convert import main
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "contracts" / "golden"
FLAGS = ["--key=id", "--time=t", "--inputs=x,y", "--targets=x"]
GOLDEN_FLAGS = ["--key=id", "--inputs=a,b,c,d", "--targets=a,b,c"]
"""Columns for the golden models of PyTorch: four inputs, three outputs."""
FOREIGN = (".onnx", ".keras", ".safetensors")


def convert(source, target, *flags):
    main([f"--input={source}", f"--output={target}", *flags])
    return target


@pytest.fixture
def weights(tmp_path):
    return saved(random_model(), tmp_path)


@pytest.mark.parametrize("suffix", FOREIGN)
def test_a_model_goes_out_and_comes_back_bit_for_bit(suffix, weights, tmp_path):
    there = convert(weights, tmp_path / f"model{suffix}")
    back = convert(there, tmp_path / "back.arrow", f"--like={weights}")

    assert weights_file.load(back) == weights_file.load(weights)


@pytest.mark.parametrize("suffix", FOREIGN)
@pytest.mark.parametrize("other", FOREIGN)
def test_from_each_framework_into_each(suffix, other, weights, tmp_path):
    first = convert(weights, tmp_path / f"first{suffix}")
    second = convert(first, tmp_path / f"second{other}")
    back = convert(second, tmp_path / "back.arrow", f"--like={weights}")

    assert weights_file.load(back) == weights_file.load(weights)


def with_quantiles():
    columns = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"], horizon=(1, 6))
    network = Network("lstm", 4, output="quantiles", quantiles=(0.2, 0.8), horizons=2)
    parameters = network.initialize(2, 2 * len(network.parts), seed=1)
    return Model(network, parameters, columns, random_model().scaler)


def test_what_a_quantile_is_comes_from_the_other_file(tmp_path):
    weights = saved(with_quantiles(), tmp_path)

    there = convert(weights, tmp_path / "model.onnx")
    back = convert(there, tmp_path / "back.arrow", f"--like={weights}")

    assert weights_file.load(back) == weights_file.load(weights)


def test_a_foreign_model_predicts_once_flags_say_what_it_sees(tmp_path):
    name = "torch-gru-l1"
    source = GOLDEN / name / "model.safetensors"
    x = np.load(GOLDEN / name / "arrays.npz")["x"][0]
    rows = [
        {"id": "k", "t": t, **dict(zip("abcd", map(float, row), strict=True))}
        for t, row in enumerate(x)
    ]
    records, output = tmp_path / "records.jsonl", tmp_path / "predictions.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))

    weights = convert(source, tmp_path / "weights.arrow", *GOLDEN_FLAGS, "--time=t")
    predict.main([f"--input={records}", f"--weights={weights}", f"--output={output}"])

    said = [json.loads(line) for line in output.read_text().splitlines()]
    said = [
        [row[f"{name}_prediction"] for name in "abc"]
        for row in sorted(said, key=lambda row: row["prediction_step"])
    ]
    expected = interop.from_torch(source).forward(x[np.newaxis])[0]
    np.testing.assert_allclose(said, expected, rtol=1e-6)


def test_several_horizons_share_the_outputs(tmp_path):
    source = GOLDEN / "torch-gru-l1" / "model.safetensors"
    flags = ["--key=id", "--inputs=a,b,c,d", "--targets=a", "--horizon=1,6,24"]

    model = weights_file.load(convert(source, tmp_path / "w.arrow", *flags))

    assert model.output_names == ("a+1", "a+6", "a+24")
    assert model.network.horizons == 3


def test_a_weights_file_without_columns_is_given_some(tmp_path):
    model = random_model()
    bare = saved(Model(model.network, model.parameters), tmp_path)

    described = weights_file.load(convert(bare, tmp_path / "described.arrow", *FLAGS))

    assert described.columns == COLUMNS
    assert described.scaler is None


@pytest.mark.parametrize("suffix", FOREIGN)
def test_what_a_format_cannot_hold_is_said(suffix, weights, tmp_path, capsys):
    target = convert(weights, tmp_path / f"model{suffix}")

    said = capsys.readouterr()
    assert said.out == f"wrote {target}\n"
    assert said.err.splitlines() == [
        f"{target} cannot hold the columns: what it takes is x, y, in this order",
        "what it gives is x",
        (
            f"{target} cannot hold the scaler: what it takes must be scaled as in training, what "
            "it gives is scaled"
        ),
    ]


def test_without_a_scaler_that_is_said(tmp_path, capsys):
    source = GOLDEN / "keras-gru_reset_after" / "model.keras"

    target = convert(source, tmp_path / "w.arrow", *FLAGS)

    said = capsys.readouterr().err
    assert said == f"{target} holds no scaler: the network sees the fields as they are\n"


@pytest.mark.parametrize("suffix", [".arrow", ".onnx"])
def test_float64_is_rounded_and_that_is_said(suffix, tmp_path, capsys):
    source = GOLDEN / "torch-gru-l1" / "model.safetensors"
    double = tmp_path / "double.safetensors"
    save_file({k: v.astype(np.float64) / 3 for k, v in load_file(source).items()}, double)

    target = convert(double, tmp_path / f"model{suffix}", *GOLDEN_FLAGS)

    assert f"{target} holds float32: the numbers of float64 are rounded" in capsys.readouterr().err
    read = weights_file.load if suffix == ".arrow" else interop.from_onnx
    expected = interop.from_torch(double).astype(np.float32).parameters
    for name, value in read(target).parameters.items():
        np.testing.assert_array_equal(value, expected[name], name)


def test_the_nonlinearity_of_an_elman_network_is_named_by_a_flag(tmp_path):
    source = GOLDEN / "torch-rnn_relu-l1" / "model.safetensors"

    weights = convert(
        source,
        tmp_path / "w.arrow",
        "--key=id",
        "--inputs=a,b,c,d",
        "--targets=a,b",
        "--activation=relu",
    )

    assert weights_file.load(weights).network.activation == "relu"


BROKEN = {
    "cut.onnx": b"no protobuf",
    "cut.keras": b"no zip",
    "cut.safetensors": b"no header",
    "cut.arrow": b"no arrow",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files to go wrong with, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, content in BROKEN.items():
        Path(name).write_bytes(content)
    model = random_model()
    weights_file.save(model, "w.arrow")
    weights_file.save(Model(model.network, model.parameters), "bare.arrow")
    weights_file.save(keyed_models(), "keyed.arrow")
    weights_file.save(random_model(Network("gru", 3, residual=True)), "residual.arrow")
    softmax = Network("gru", 3, output="softmax")
    interop.to_onnx(Model(softmax, softmax.initialize(2, 4, seed=0)), "softmax.onnx")
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        *(
            ([f"--input={name}", "--output=o.onnx"], f"--input {name!r}: {name!r}")
            for name in BROKEN
        ),
        (["--input=none.onnx", "--output=o.keras"], "--input: there is no file 'none.onnx'"),
        (["--input=none.arrow", "--output=o.keras"], "--input: there is no file 'none.arrow'"),
        (
            ["--input=w.arrow", "--output=w.arrow/o.onnx"],
            "--output 'w.arrow/o.onnx' cannot be written",
        ),
        (
            ["--input=w.arrow", "--output=none/o.onnx"],
            "--output 'none/o.onnx' cannot be written: there is no folder",
        ),
        (["--input=m.pkl", "--output=o.onnx"], "--input must end in one of .arrow, .onnx, .keras"),
        (["--input=m.h5", "--output=o.onnx"], "got 'm.h5'; load it in Keras 3 and save it as"),
        (["--input=w.arrow", "--output=o.pt"], "got 'o.pt'; a state_dict is saved by safetensors"),
        (["--input=m.pth", "--output=o.onnx"], "got 'm.pth'; a state_dict is saved by safetens"),
        (["--input=w.arrow", "--output=o"], "--output must end in one of .arrow, .onnx, .keras"),
        (
            ["--input=bare.arrow", "--output=o.arrow"],
            (
                "--output 'o.arrow' would not say which fields of a record the model sees, and "
                "Predict could not use it: give --key, --inputs and, as needed, --time, --targets "
                "and --horizon, or --like"
            ),
        ),
        (
            ["--input=keyed.arrow", "--output=o.onnx"],
            "--input 'keyed.arrow': it holds a KeyedModels, only a file of one Model",
        ),
        (
            ["--input=residual.arrow", "--output=o.keras"],
            "--output 'o.keras': a chain of Keras layers does not support a residual head",
        ),
        (
            ["--input=w.arrow", "--output=o.arrow", "--like=w.arrow", "--key=id", "--horizon=2"],
            "--like 'w.arrow' has what --key, --horizon would name: leave out one or the other",
        ),
        (
            ["--input=w.arrow", "--output=o.arrow", "--like=bare.arrow"],
            "--like 'bare.arrow' does not say which fields",
        ),
        (
            ["--input=w.arrow", "--output=o.arrow", "--like=cut.arrow"],
            "--like 'cut.arrow': 'cut.arrow' cannot be used, it is truncated, altered or",
        ),
        (
            ["--input=w.arrow", "--output=o.arrow", "--key=id"],
            "--input 'w.arrow': --key alone: --key and --inputs are needed too",
        ),
        (
            ["--input=w.arrow", "--output=o.arrow", "--key=id", "--inputs=x"],
            "--input 'w.arrow': the parameters are for 2 inputs and 1 targets, but columns name 1",
        ),
        (
            ["--input=softmax.onnx", "--output=o.arrow", "--horizon=1,2", *FLAGS],
            "its softmax is over all outputs of 1 horizons, the columns name 2",
        ),
    ],
)
@pytest.mark.usefixtures("folder")
def test_an_error_names_the_file_and_the_flag(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(lambda: main(flags))

    code = caught.value.code
    said = capsys.readouterr().err if code == 2 else code
    assert said.startswith("error: ")
    assert message in said
    assert not list(Path().glob("o.*"))


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "networks.md").read_text()
    section = page.split("## PyTorch, Keras and ONNX")[1]
    (shell,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    weights_file.save(with_quantiles(), "ranges.arrow")
    other = Network("lstm", 5, layers=2)
    interop.to_torch(Model(other, other.initialize(2, 1, seed=3)), "model.safetensors")

    for line in shell.replace("\\\n", " ").splitlines():
        program, *flags = shlex.split(line)
        assert program == "beam-rnn"
        command.main(flags)

    assert weights_file.load("again.arrow") == weights_file.load("ranges.arrow")
    assert weights_file.load("pumps.arrow").columns.inputs == ("pressure", "flow")


def test_it_is_one_of_the_commands(weights, tmp_path, capsys):
    command.main(["convert", f"--input={weights}", f"--output={tmp_path}/model.onnx"])
    assert (tmp_path / "model.onnx").exists()

    with pytest.raises(SystemExit):
        command.main(["convert", "--help"])
    assert "beam-rnn convert --input weights.arrow --output weights.onnx" in capsys.readouterr().out
