"""`beam-rnn`, the installed command: what its parts share, and those that look at weights."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import beam_rnn
from beam_rnn import Columns, KeyedModels, Model, Network, weights
from beam_rnn.commands.main import COMMANDS, main
from beam_rnn.horizon import gradient_horizon
from beam_rnn.scaler import Scaler
from tests.models import saved

COLUMNS = Columns(key="id", time="at", inputs=["load", "heat"], targets=["load"])


def model(seed=0, **network):
    described = Network("gru", hidden=5, **network)
    values = {
        key: (np.arange(20.0).reshape(10, 2) + i, np.arange(10.0)[:, np.newaxis])
        for i, key in enumerate("ab")
    }
    scaler = Scaler.fit(values, COLUMNS)
    return Model(described, described.initialize(2, 1, seed), COLUMNS, scaler)


def output(capsys, *flags):
    main(list(map(str, flags)))
    return capsys.readouterr().out


def failed(capsys, *flags):
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, flags)))
    return caught.value.code, capsys.readouterr().err


def test_the_installed_command_lists_all_commands_and_says_nothing_else():
    command = Path(sys.executable).with_name("beam-rnn")
    result = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)  # noqa: S603

    assert all(f"    {name} " in result.stdout for name in COMMANDS)
    assert not result.stderr


def test_the_package_runs_as_the_command():
    asked = [sys.executable, "-m", "beam_rnn", "--version"]
    result = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603

    assert result.stdout.strip() == beam_rnn.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_examples_of_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])

    assert caught.value.code == 0
    assert f"    beam-rnn {name} " in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])

    assert caught.value.code == 2
    assert "usage: beam-rnn COMMAND" in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    code, said = failed(capsys, "predcit")

    assert code == 2
    assert "'predcit'" in said


def test_an_error_is_one_line_and_with_debug_has_its_trace(capsys):
    code, said = failed(capsys, "inspect", "/nowhere.arrow")
    assert code.startswith("error: ")
    assert "/nowhere.arrow" in code
    assert "Traceback" not in said

    code, said = failed(capsys, "inspect", "/nowhere.arrow", "--debug")
    assert "/nowhere.arrow" in code
    assert "Traceback" in said


def test_a_file_that_holds_no_weights_is_named(capsys):
    code, _ = failed(capsys, "inspect", __file__)

    assert Path(__file__).name in code


def test_inspect_shows_what_the_file_holds(tmp_path, capsys):
    shown = model()
    text = output(capsys, "inspect", saved(shown, tmp_path))

    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "GRU, 1 layer of 5 units" in lines["network"]
    assert lines["inputs"].endswith("load, heat")
    assert lines["digest"].endswith(shown.digest)
    assert lines["input heat"].split()[2:] == ["10.5", "5.76628"]
    of_all = shown.parameters["head.W_y"]
    assert lines["head.W_y"].split()[1:4] == ["5", "x", "1"]
    assert float(lines["head.W_y"].split()[4]) == pytest.approx(of_all.mean(), abs=1e-3)
    assert all(name in lines for name in shown.parameters)


def test_the_gradient_horizon_is_that_of_the_library(tmp_path, capsys):
    shown = model()
    text = output(capsys, "inspect", saved(shown, tmp_path))

    x = np.random.default_rng(0).standard_normal((4, 320, 2))
    steps = gradient_horizon(shown, x, 256).recommended_steps
    assert f"less than 1 % is left after {steps} steps" in text


def test_inspect_as_json_can_be_read_by_a_program(tmp_path, capsys):
    shown = model()
    values = json.loads(output(capsys, "inspect", saved(shown, tmp_path), "--json"))

    assert values["digest"] == shown.digest
    assert values["network"] == shown.network.to_json()
    assert values["parameters"]["head.W_y"] == [5, 1]


def test_inspect_shows_the_model_of_a_key(tmp_path, capsys):
    models = KeyedModels.gathered(
        {"a": model(1), "b": model(2)}, fallback=None, reasons={"c": "3 records are too few"}
    )
    path = tmp_path / "weights.arrow"
    weights.save(models, path)

    text = output(capsys, "inspect", path)
    assert "2 models, each of a key" in text
    assert "3 records are too few" in text
    assert model(2).digest in output(capsys, "inspect", path, "--key", "b")
    assert failed(capsys, "inspect", path, "--key", "c")[0].endswith("3 records are too few")
    assert "training did not see it" in failed(capsys, "inspect", path, "--key", "z")[0]


def test_a_key_of_a_file_with_one_model_is_refused(tmp_path, capsys):
    code, _ = failed(capsys, "inspect", saved(model(), tmp_path), "--key", "a")

    assert "one model for all keys" in code


def test_what_cannot_be_measured_is_said(tmp_path, capsys):
    both = model(bidirectional=True)

    assert "not measured" in output(capsys, "inspect", saved(both, tmp_path))
