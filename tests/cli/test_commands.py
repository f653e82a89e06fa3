"""The installed command `beam-rnn`: its common parts, and the commands for weights files."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import beam_rnn
from beam_rnn import Columns, KeyedModels, Model, Network, Training, weights
from beam_rnn.cli import dataclass_flags, flags, predict, train
from beam_rnn.cli import launch as progress
from beam_rnn.cli.console import Once
from beam_rnn.cli.launch import StoppedError, launch
from beam_rnn.cli.main import COMMANDS, main
from beam_rnn.cli.output_paths import BESIDE, CHECKPOINTS, STATES, Prefix, check_outputs
from beam_rnn.data.scaling import Scaler
from beam_rnn.errors import ConfigurationError
from beam_rnn.horizon import gradient_horizon
from tests.helpers.models import saved

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
    assert "'predcit'; did you mean predict?" in said


def test_an_error_is_one_line_and_with_debug_has_its_trace(capsys):
    code, said = failed(capsys, "inspect", "/nowhere.arrow")
    assert code == 2
    assert said == "error: weights: there is no file '/nowhere.arrow'\n"

    for words in (["inspect", "--debug"], ["--debug", "inspect"]):
        code, said = failed(capsys, *words, "/nowhere.arrow")
        assert said.endswith("error: weights: there is no file '/nowhere.arrow'\n")
        assert "Traceback" in said


WEIGHTS = {"inspect": [], "size": ["--weights"], "convert": ["--output=o.onnx", "--input"]}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_missing_weights_file_is_named(name, capsys):
    code, said = failed(capsys, name, *WEIGHTS[name], "nope.arrow")

    assert code == 2
    assert "there is no file 'nope.arrow'" in said


TRAIN = ["train", "--input=a.csv", "--key=id", "--time=at", "--inputs=x", "--output=w.arrow"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--epohcs=3", "unknown flags: --epohcs=3; did you mean --epochs?"),
        ("--colour=red", "unknown flags: --colour=red; --help lists those there are"),
        ("--train_fraction=60", "--train_fraction: must be in (0, 1], such as 0.6, got '60'"),
        ("--bptt_steps=0", "--bptt_steps: steps must be a whole number of at least 1, got 0"),
        ("--sequence_length=x", "--sequence_length: must be a whole number"),
        (
            "--hidden=8,x",
            "--hidden: must be a whole number, or several such as 1,6,24 or 1-24, got '8,x'",
        ),
        ("--hidden=8,4 --layers=3", "lists 2 layers, got layers=3"),
        ("--dropout=1", "--dropout: layers must be in [0, 1), got 1.0"),
        ("--learning_rate=-1", "--learning_rate: learning_rate must be"),
        ("--refit --train_fraction=1", "--refit evaluates on what is held back"),
        ("--refit --checkpoints=c", "--checkpoints is for one training"),
        ("--refit --per_key --validation=0.2", "leave out --validation, and choose --epochs"),
        ("--output=w.csv", "--output: must end in .arrow, got 'w.csv'"),
        ("--checkpoints=c.arrow", "--checkpoints: must be a prefix"),
        ("--per_key --report=r.html", "leave out --report, and let `beam-rnn evaluate`"),
        ("--start=w.arrow", "--output 'w.arrow' would be written over --start 'w.arrow'"),
        ("--report=w.arrow", "--report: must end in .html, got 'w.arrow'"),
        ("--missing=guess", "--missing must be one of refuse, drop, carry, got 'guess'"),
        ("--loss=msa", "--loss must be one of"),
    ],
)
def test_wrong_flags_are_reported_in_one_line_and_exit_with_2(
    flag, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "w.arrow"):
        Path(name).touch()
    code, said = failed(capsys, *TRAIN, *flag.split())

    assert code == 2
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_required_flag_that_was_mistyped_is_named(capsys):
    code, said = failed(capsys, *TRAIN[:-1], "--outptu=w.arrow")

    assert code == 2
    assert "required: --output; unknown flags: --outptu=w.arrow; did you mean --output?" in said


OF_CLASSES = {Columns: train.COLUMNS, Network: train.NETWORK, Training: train.TRAINING}


@pytest.mark.parametrize("kind", OF_CLASSES)
def test_the_defaults_of_flags_are_those_of_the_classes(kind):
    args, _ = train.parse(TRAIN[1:])
    needed = {"key": "id", "inputs": ["x"], "time": "at"} if kind is Columns else {}

    made = dataclass_flags.made(kind, args, OF_CLASSES[kind])

    assert made == kind(**needed)
    assert (train.network_of(args), train.training_of(args)) == (Network(), Training())


def test_the_help_has_the_description_and_the_default_of_each_class(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])

    text = " ".join(capsys.readouterr().out.split())
    for default in ("0.6", "per_key", "gru", "20", "0.003", "refuse", "0"):
        assert f"; default: {default} " in text
    assert "default: None" not in text
    for kind, fields in OF_CLASSES.items():
        described = dataclass_flags.descriptions(kind)
        assert all(described[name] in text for name in fields)


def test_nothing_is_written_over_what_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").touch()
    (tmp_path / "p.csv.invalid.jsonl").touch()
    (tmp_path / "link.csv").symlink_to("a.csv")

    def refuses(inputs, output):
        with pytest.raises(ConfigurationError, match="would be written over --input"):
            check_outputs({"--input": inputs}, {"--output": output}, {"--output": BESIDE})

    refuses("a.csv", "./a.csv")
    refuses("*.csv", "link.csv")
    refuses("*.jsonl", "p.csv")
    refuses("gs://bucket/p.csv", "gs://bucket/p.csv")
    (tmp_path / "p.csv").touch()
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "a.csv")
    refuses("a.csv", "hard.csv")
    check_outputs({"--input": "a.csv"}, {"--output": "p.csv", "--report": None})


def test_an_output_that_matches_the_input_pattern_is_refused(tmp_path, monkeypatch):
    def check(inputs, output, flag="--input"):
        check_outputs({flag: inputs}, {"--output": output}, {"--output": BESIDE})

    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    for name in ("a.csv", "data/a.csv", "data/x/a.csv", "data/a.jsonl", "data/w.arrow"):
        (tmp_path / name).touch()
    for inputs, output in (
        ("*.csv", "p.csv"),
        ("data/*.csv", f"{tmp_path}/data/p.csv"),
        ("data/*.csv", "link/p.csv"),
        ("*/?.csv", "data/p.csv"),
        ("data/*.jsonl", "data/p.csv"),  # by the file of dead letters
    ):
        with pytest.raises(ConfigurationError, match=r"read by --input '.*' the next time"):
            check(inputs, output)
    check("data/*.csv", "p.csv")
    check("data/*/*.csv", "p.csv")
    check("[a-b].csv", "p.csv")
    check("data/*.arrow", "data/next.arrow", "--weights")
    with pytest.raises(ConfigurationError, match=r"--output 'gs://b/in/p\.csv' would be read"):
        check("gs://b/in/*.csv", "gs://b/in/p.csv")


def test_no_file_of_a_prefix_is_written_over_what_is_read(tmp_path, monkeypatch):
    def check(inputs, prefix, outputs=()):
        check_outputs(inputs, dict(outputs), None, {"--prefix": prefix})

    monkeypatch.chdir(tmp_path)
    (tmp_path / "states-00000-of-00001.parquet").touch()
    states = {"--states": "states*"}
    with pytest.raises(ConfigurationError, match="'states' may be written over --states 'states"):
        check(states, Prefix("states", STATES))
    check(states, Prefix("states-2", STATES))

    (tmp_path / "c-00001.arrow").touch()
    (tmp_path / "other.arrow").hardlink_to("c-00001.arrow")
    for read in ("c-00001.arrow", "c-*", "other.arrow"):
        with pytest.raises(ConfigurationError, match="--prefix 'c' may be written over --resume"):
            check({"--resume": read}, Prefix("c", CHECKPOINTS))
        check({"--resume": read}, Prefix("c", CHECKPOINTS, resumes="--resume"))
    with pytest.raises(ConfigurationError, match="--prefix 'd' may be written over --output"):
        check({}, Prefix("d", CHECKPOINTS), {"--output": "d-00007.arrow"})
    (tmp_path / "e-00002.arrow").mkdir()
    with pytest.raises(ConfigurationError, match=r"e-00002\.arrow'.* is a folder"):
        check({}, Prefix("e", CHECKPOINTS))
    for prefix in ("st*", "s[1]", "s?"):
        with pytest.raises(ConfigurationError, match=r"must not contain \*, \? or \["):
            check(states, Prefix(prefix, STATES))


def test_a_prefix_of_outputs_does_not_match_other_files(tmp_path, monkeypatch):
    def check(inputs, prefix):
        check_outputs({"--input": inputs}, {}, None, {"--checkpoints": Prefix(prefix, CHECKPOINTS)})

    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for path in ("c-00001.arrow", "data/c-00001.arrow", "data/-00001.arrow"):
        (tmp_path / path).touch()
    (tmp_path / "c").symlink_to("elsewhere")
    (tmp_path / "runs").symlink_to("data")
    with pytest.raises(ConfigurationError, match="'c' may be written over --input 'c-"):
        check("c-00001.arrow", "c")
    with pytest.raises(ConfigurationError, match="'runs/c' may be written over --input 'data/c"):
        check("data/c-00001.arrow", "runs/c")
    check("data/c-00001.arrow", "runs")
    for prefix in ("data/", "none/"):
        with pytest.raises(
            ConfigurationError, match=f"'{prefix}' is a folder: add what .* '{prefix}a"
        ):
            check("data/-00001.arrow", prefix)


def test_the_folder_that_a_failed_run_leaves_is_named(tmp_path, caplog):
    def build(pipeline):
        _ = pipeline | beam.Create(["a", "b"]) | beam.Map(int) | beam.io.WriteToText(output)

    output, before = str(tmp_path / "out.csv"), tmp_path / f"beam-temp-out.csv-{'0' * 32}"
    before.mkdir()
    with pytest.raises(ValueError, match="invalid literal"):
        launch(build, PipelineOptions(["--runner=FnApiRunner"]), [output])

    (left,) = set(tmp_path.iterdir()) - {before}
    assert (
        caplog.messages.count(f"{left} is left: remove it, unless another run is writing there")
        == 1
    )
    assert str(before) not in caplog.text


def test_a_repeated_log_line_is_printed_once():
    once = Once()
    said = [logging.makeLogRecord({"msg": "loaded %s", "args": (each,)}) for each in "aba"]

    assert [once.filter(record) for record in said] == [True, True, False]


def test_the_rate_is_counted_from_the_first_prediction_on(monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    say = progress.SayProgress("predictions")
    say.setup()
    with caplog.at_level(logging.INFO, logger="beam_rnn"):
        say.process(None)
        now = 1010.0
        for _ in range(1023):
            say.process(None)

    assert caplog.messages == ["1,024 predictions, 102 a second"]


def test_a_worker_s_complaint_is_not_about_the_flags():
    def build(pipeline):
        _ = pipeline | beam.Create([1]) | beam.Map(refuse)

    with pytest.raises(StoppedError, match="not this one"):
        launch(build, PipelineOptions(["--runner=FnApiRunner"]), [])


def refuse(_):
    raise ConfigurationError("not this one")


def test_a_file_that_holds_no_weights_is_named(capsys):
    code, said = failed(capsys, "inspect", __file__)

    assert code == 2
    assert Path(__file__).name in said


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
    assert "3 records are too few" in failed(capsys, "inspect", path, "--key", "c")[1]
    assert "training did not see it" in failed(capsys, "inspect", path, "--key", "z")[1]


def test_a_key_of_a_file_with_one_model_is_refused(tmp_path, capsys):
    code, said = failed(capsys, "inspect", saved(model(), tmp_path), "--key", "a")

    assert code == 2
    assert "one model for all keys" in said


def test_inspect_says_that_a_key_has_no_model_of_its_own(tmp_path, capsys):
    own = {"a": model(1), "b, c": model(2)}
    models = KeyedModels.gathered(own, fallback=model(3), reasons={"d": "it is too short"})
    path = tmp_path / "weights.arrow"
    weights.save(models, path)

    text = output(capsys, "inspect", path, "--key", "d")
    assert "'d' has no model of its own (it is too short): this is the fallback" in text
    assert "a, 'b, c'" in text
    assert model(3).digest in text.split("this is the fallback")[1]


def test_inspect_says_that_a_bidirectional_network_is_not_measured(tmp_path, capsys):
    both = model(bidirectional=True)

    assert "not measured" in output(capsys, "inspect", saved(both, tmp_path))


def test_paths_are_absolute_for_workers_in_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["--input=day-*.csv", "--weights=w.arrow", "--output=gs://bucket/o.csv"]

    args, beam_flags = predict.parse([*asked, "--runner=FlinkRunner"])
    flags.locate(args, beam_flags, predict.PATHS)
    assert args.input == str(tmp_path / "day-*.csv")
    assert args.weights == str(tmp_path / "w.arrow")
    assert (args.output, args.states) == ("gs://bucket/o.csv", None)

    args, beam_flags = predict.parse(asked)
    flags.locate(args, beam_flags, predict.PATHS)
    assert args.input == "day-*.csv"
