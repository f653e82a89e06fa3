"""Mistakes of users: one line with the value, and unchanged files."""

import gzip
import importlib
import os
import resource
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_rnn import weights
from beam_rnn.cli.console import in_one_line, run
from beam_rnn.cli.main import main
from tests.helpers.models import random_model

CSV = "id,t,x,y\n" + "".join(f"{'ab'[i % 2]},{3600 * i},{i % 5},{i % 3}\n" for i in range(40))
CSV_OF = "id,t,x\n{}\n"
TRAIN = "train --key id --time t --inputs x --epochs 1 --hidden 2 --output new.arrow"
PREDICT = "predict --weights w.arrow --output p.csv"
EVALUATE = "evaluate --input in.csv --weights w.arrow"
REPORT = "report --input in.csv --weights w.arrow"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with data and models, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    model = random_model()
    weights.save(model, "w.arrow")
    weights.save(model, "c-00001.arrow")
    data = (tmp_path / "w.arrow").read_bytes()
    (tmp_path / "cut.arrow").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.arrow").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "in.csv").write_text(CSV)
    (tmp_path / "hard.csv").hardlink_to("in.csv")
    (tmp_path / "link.csv").symlink_to("in.csv")
    (tmp_path / "text.parquet").write_text(CSV)
    (tmp_path / "text.arrow").write_text(CSV)
    (tmp_path / "in.jsonl").write_text("{}\nnone\n")
    (tmp_path / "in.xls").write_text(CSV)
    (tmp_path / "other.jsonl").write_text('{"id": "a"}\nnone\n{"id": "a", "t": 0}\n')
    table = pa.table({"t": [0], "x": [0.5]})
    with pa.ipc.new_file("other.arrow", table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "kept.txt").write_text("kept")
    (tmp_path / "set.parquet").mkdir()
    table = pa.table({"id": ["a"] * 9, "t": [3600 * i for i in range(9)], "x": [0.5] * 9})
    pq.write_table(table, "set.parquet/0.parquet")
    (tmp_path / "d[1].csv").write_text(CSV)
    packed = gzip.compress(CSV.encode())
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-20])
    (tmp_path / "packed.csv").write_bytes(packed)
    (tmp_path / "plain.csv.gz").write_text(CSV)
    (tmp_path / "utf16.csv").write_text(CSV, encoding="utf-16")
    (tmp_path / "latin.csv").write_bytes("id,t,x,größe\na,0,1,1\n".encode("latin1"))
    (tmp_path / "comma.csv").write_text(CSV.replace(",", ";"))
    (tmp_path / "quote.csv").write_text(CSV + 'a,9,1,"1\n' + CSV)
    (tmp_path / "years.csv").write_text(
        CSV_OF.format("\n".join(f"a,{y},1" for y in range(1900, 1940)))
    )
    nanoseconds = "\n".join(f"a,{t}000000000,1" for t in range(1_404_172_800, 1_404_172_840))
    (tmp_path / "nanoseconds.csv").write_text(CSV_OF.format(nanoseconds))
    with zipfile.ZipFile("torch.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    os.mkfifo("pipe.csv")
    return tmp_path


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def mistaken(command, capsys):
    """Return the exit code and the standard error."""
    with pytest.raises(SystemExit) as end:
        main(command.split(" "))
    said = capsys.readouterr().err
    code = end.value.code
    return (1, f"{said}{code}\n") if isinstance(code, str) else (code, said)


OF_FLAGS = {
    # The command, and its flags.
    "predcit": "there is no command 'predcit'; did you mean predict?",
    "train": "required: --input, --output, --key",
    f"{TRAIN} --input in.csv --epohcs 3": "unknown flags: --epohcs 3; did you mean --epochs?",
    f"{TRAIN} --input in.csv extra": "unknown flags: extra",
    f"{TRAIN} --input in.csv --epochs ten": "--epochs: must be a whole number, got 'ten'",
    f"{TRAIN} --input in.csv --hidden 0": "--hidden must be a whole number of at least 1, got 0",
    f"{TRAIN} --input in.csv --hidden 1000000000": "must be at most 16,384, got",
    f"{TRAIN} --input in.csv --layers 1000000000": "must be at most 1,000, got",
    f"{TRAIN} --input in.csv --horizon 1-1000000000": "from 1 to 10,000 numbers",
    f"{TRAIN} --input in.csv --shards 2 --epochs 100000": "give --local_epochs 100",
    f"{TRAIN} --input in.csv --cell grru": "--cell must be one of rnn, gru, lstm, got 'grru'",
    f"{TRAIN} --input in.csv --seed x": "--seed: must be a whole number, got 'x'",
    f"{TRAIN} --input in.csv --seed -1": "--seed must be",
    f"{TRAIN} --input in.csv --learning_rate nan": "got nan",
    f"{TRAIN} --input in.csv --learning_rate fast": "--learning_rate: must be a number, got 'fast'",
    f"{TRAIN} --input in.csv --quantiles 0.1,high": "must be numbers such as 0.1,0.9",
    f"{TRAIN} --input in.csv --quantiles 0.9,0.1": "quantiles",
    f"{TRAIN} --input in.csv --validation 2": "got 2.0",
    f"{TRAIN} --input in.csv --horizon 3-1": "horizon",
    f"{TRAIN} --input in.csv --calendar dya": "'dya'",
    f"{TRAIN} --input in.csv --targets x,x": "'x'",
    f"{TRAIN} --input in.csv --runner Foo": "--runner 'Foo'",
    f"{TRAIN} --input in.csv --train_fraction 60": "must be in (0, 1], such as 0.6, got '60'",
    f"{PREDICT} --input in.csv --order time": "invalid choice: 'time'",
    f"{PREDICT} --input in.csv --wait -1": "got -1.0",
    f"{PREDICT} --input in.csv --wait nan": "got nan",
    f"{PREDICT} --input in.csv --shards 0": "got 0",
    f"{PREDICT} --input in.csv --idle_after -1": "got -1.0",
    f"{PREDICT} --input in.csv --order arrival --keep all": "--keep goes with an order",
    f"{REPORT} --output r.html --shuffle_within -1": "shuffle_within",
    "size --hidden many": "got 'many'",
    "size --hidden 8 --weights w.arrow": "leave out --hidden",
    "size --keys -1": "got -1",
    "inspect w.arrow --key a": "holds one model for all keys",
    # The columns that it names.
    f"{TRAIN.replace('x', 'z')} --input in.csv": (
        "--inputs: there is no column 'z' in 'in.csv'; it has id, t, x, y"
    ),
    f"{TRAIN.replace('--key id', '--key idd')} --input in.csv": (
        "--key: there is no column 'idd' in 'in.csv'; did you mean id?"
    ),
    f"{TRAIN} --input in.csv --weight wieght": "--weight: there is no column 'wieght'",
    f"{TRAIN.replace('x', 'z')} --input set.parquet/*.parquet": "it has id, t, x",
    f"{TRAIN} --input other.arrow": "--key: there is no column 'id' in 'other.arrow'",
    f"{TRAIN} --input other.jsonl": "--inputs: there is no column 'x' in 'other.jsonl'",
    f"{PREDICT} --input in.csv --keep z": "--keep: there is no column 'z' in 'in.csv'",
    f"{PREDICT} --input other.jsonl": "--weights 'w.arrow' is a model of other columns (inputs)",
    # Where it is read from.
    f"{TRAIN} --input none.csv": "--input: there is no file 'none.csv'",
    f"{TRAIN} --input none/*.csv": "--input: there is no file 'none/*.csv'",
    f"{TRAIN} --input folder.csv": "--input 'folder.csv' is a folder: name its files",
    f"{TRAIN} --input pipe.csv": "'pipe.csv' is a device or a pipe",
    f"{TRAIN} --input d[1].csv": "no file 'd[1].csv'; [, * and ? make a pattern of a name: write ?",
    f"{TRAIN} --input in.xls": "must end in one of .csv, .parquet, .arrow, .jsonl, got 'in.xls'",
    f"{TRAIN} --input file:///tmp/in.csv": "'file:///tmp/in.csv': give a path",
    f"{TRAIN} --input nowhere://b/in.csv": "no filesystem for nowhere://",
    f"{TRAIN} --input in.csv --start none.arrow": "--start: there is no file 'none.arrow'",
    f"{TRAIN} --input in.csv --resume c-*9.arrow": "--resume: there is no file 'c-*9.arrow'",
    f"{PREDICT} --input in.csv --states c-00001.arrow": "'c-00001.arrow' holds no hidden states",
    f"{PREDICT} --input in.csv --states none*": "--states: there is no file 'none*'",
    "predict --input in.csv --weights cut.arrow --output p.csv": "'cut.arrow'",
    "predict --input in.csv --weights empty.arrow --output p.csv": "'empty.arrow' is empty",
    "predict --input in.csv --weights in.csv --output p.csv": "'in.csv'",
    "predict --input in.csv --weights folder.csv --output p.csv": "'folder.csv' is a folder",
    "inspect none.arrow": "there is no file 'none.arrow'",
    "inspect cut.arrow": "'cut.arrow'",
    "inspect folder.csv": "'folder.csv'",
    "inspect torch.pt": "'torch.pt'",
    "convert --input torch.pt --output o.arrow": "'torch.pt'",
    "size --weights none.arrow": "there is no file 'none.arrow'",
    "size --weights folder.csv": "'folder.csv'",
    "convert --input none.arrow --output o.onnx": "there is no file 'none.arrow'",
    # Where it is written to.
    f"{TRAIN[:-9]}new.csv --input in.csv": "must end in .arrow, got 'new.csv'",
    f"{EVALUATE} --output m.csv": "must end in .json, got 'm.csv'",
    f"{REPORT} --output r.csv": "must end in .html, got 'r.csv'",
    "predict --input in.csv --weights w.arrow --output p.txt": "got 'p.txt'",
    "predict --input in.csv --weights w.arrow --output p.arrow.gz": "got 'p.arrow.gz'",
    "predict --input in.csv --weights w.arrow --output folder.csv": "'folder.csv' is a folder",
    "predict --input set.parquet/*.parquet --weights w.arrow --output set.parquet": (
        "--output 'set.parquet' is a folder"
    ),
    "predict --input in.csv --weights w.arrow --output in.csv": "over --input 'in.csv'",
    "predict --input in.csv --weights w.arrow --output .//in.csv": "over --input 'in.csv'",
    "predict --input in.csv --weights w.arrow --output folder.csv/../in.csv": "over --input",
    "predict --input in.csv --weights w.arrow --output link.csv": "over --input 'in.csv'",
    "predict --input in.csv --weights w.arrow --output hard.csv": "over --input 'in.csv'",
    "predict --input *n.csv --weights w.arrow --output in.csv": "over --input '*n.csv'",
    "predict --input in.csv --weights w.arrow --output none/p.csv": "there is no folder",
    "predict --input in.csv --weights w.arrow --output in.csv/p.csv": "there is no folder",
    "predict --input in.csv --weights w.arrow --output pipe.csv": "is a device or a pipe",
    "predict --input in.csv --weights w.arrow --output file:///tmp/p.csv": "without file://",
    f"{TRAIN} --input in.csv --start new.arrow": "'new.arrow' would be written over --start",
    f"{TRAIN} --input c-*.arrow --checkpoints c": "--checkpoints 'c' may be written over --input",
    f"{TRAIN} --input in.csv --start c-00001.arrow --checkpoints c": "may be written over --start",
    f"{TRAIN} --input in.csv --checkpoints none/c": "there is no folder",
    f"{TRAIN} --input in.csv --checkpoints c.arrow": "must be a prefix",
    f"{TRAIN} --input in.csv --report new.arrow": "must end in .html, got 'new.arrow'",
    f"{EVALUATE} --output m.json --predictions w.arrow": "over --weights 'w.arrow'",
    f"{EVALUATE} --output m.json --predictions folder.csv": "'folder.csv' is a folder",
    f"{EVALUATE} --output m.json --predictions m.json.invalid.jsonl": "would be written over",
    f"{TRAIN} --input in.csv --checkpoints c*": "must not contain *, ? or [",
    f"{TRAIN} --input in.csv --checkpoints folder.csv/": "'folder.csv/' is a folder",
    f"{PREDICT} --input in.csv --export_states s?": "must not contain *, ? or [",
    f"{TRAIN[:-9]}{'n' * 300}.arrow --input in.csv": "cannot be written: File name too long",
    "predict --input *.csv --weights w.arrow --output p.csv": "would be read by --input '*.csv'",
    "convert --input w.arrow --output w.arrow": "would be written over --input 'w.arrow'",
    "convert --input w.arrow --output o.pkl": "must end in one of",
}
"""Commands whose flags, or the files that they name, are wrong; what is said of each."""

WHILE_RUNNING = {
    f"{TRAIN} --input empty.csv": "there is no record in 'empty.csv'",
    f"{TRAIN} --input in.jsonl": "none of 2 records could be used",
    f"{TRAIN} --input text.parquet": "'text.parquet' cannot be read as a .parquet file",
    f"{TRAIN} --input text.arrow": "'text.arrow' cannot be read as a .arrow file",
    f"{TRAIN} --input cut.csv.gz": "'cut.csv.gz' cannot be read as a .csv file, it is truncated",
    f"{TRAIN} --input packed.csv": "'packed.csv' is compressed by gzip: let its name end in .gz",
    f"{TRAIN} --input plain.csv.gz": "'plain.csv.gz' cannot be read",
    f"{TRAIN} --input utf16.csv": "'utf16.csv' is UTF-16 text: save it as UTF-8",
    f"{TRAIN} --input latin.csv": "'latin.csv' has a header that is not UTF-8",
    f"{TRAIN} --input comma.csv": "'comma.csv' has columns separated by semicolons",
    f"{TRAIN} --input quote.csv": "a quote in line 42",
    f"{TRAIN} --input years.csv": "the times look like years, such as t='1900'",
    f"{TRAIN} --input nanoseconds.csv": "set time_format to its unit",
}
"""Commands that can only be told to be wrong while they run."""
ASIDE = ["new.arrow.invalid.jsonl"]


@pytest.mark.parametrize("command", OF_FLAGS)
def test_a_wrong_flag_is_reported_in_one_line_before_anything_runs(command, folder, capsys):
    before = contents(folder)

    code, said = mistaken(command, capsys)

    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert OF_FLAGS[command] in said
    assert contents(folder) == before


@pytest.mark.parametrize("command", WHILE_RUNNING)
def test_a_failure_at_run_time_is_reported_in_one_line(command, folder, capsys):
    before = contents(folder)

    code, said = mistaken(command, capsys)

    assert code == 1
    assert "Traceback" not in said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert WHILE_RUNNING[command] in error
    after = contents(folder)
    assert {name: after[name] for name in after if name not in ASIDE} == before


WRITERS = {
    f"{TRAIN} --input in.csv": "'new.arrow': File too large",
    f"{TRAIN} --input in.csv --checkpoints new": "'new-00001.arrow': File too large",
    f"{PREDICT} --input in.csv": "'p.csv': File too large",
    f"{PREDICT} --input in.csv --keep all": "'p.csv': File too large",
    f"{EVALUATE} --output m.json": "'m.json': File too large",
    f"{REPORT} --output r.html": "'r.html': File too large",
    "convert --input w.arrow --output o.arrow": "'o.arrow': File too large",
}
"""Commands that write more than `LIMIT` bytes."""
LIMIT = 300


@pytest.mark.parametrize("command", WRITERS)
def test_an_incomplete_file_is_not_kept(command, folder, capsys):
    """A limit on the size of files simulates a full disk."""
    before = contents(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
    try:
        code, said = mistaken(command, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert code == 1
    assert "Traceback" not in said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert WRITERS[command] in error
    assert contents(folder) == before


def test_a_missing_permission_is_reported_in_one_line(folder, capsys):
    (folder / "in.csv").chmod(0)
    if os.access("in.csv", os.R_OK):
        pytest.skip("root may read and write everything")
    code, said = mistaken(f"{TRAIN} --input in.csv", capsys)
    assert (code, said.count("\n")) == (2, 1)
    assert "error: --input 'in.csv': you may not read" in said

    (folder / "in.csv").chmod(0o600)
    (folder / "w.arrow").chmod(0o400)
    code, said = mistaken(f"{TRAIN[:-9]}w.arrow --input in.csv", capsys)
    assert (code, said.count("\n")) == (2, 1)
    assert "--output 'w.arrow' cannot be written: the file is there and read-only" in said

    folder.chmod(0o500)
    code, said = mistaken(f"{PREDICT} --input in.csv", capsys)
    folder.chmod(0o700)
    assert (code, said.count("\n")) == (2, 1)
    assert "--output 'p.csv' cannot be written: the folder" in said


@pytest.mark.parametrize(
    ("of_worker", "said"),
    [
        ("OSError: [Errno 28] No space left on device: 'p.csv'", "'p.csv': No space left"),
        ("PermissionError: [Errno 13] Permission denied: 'a.csv'", "'a.csv': Permission denied"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'a'", "there is no file 'a'"),
        ("numpy._ArrayMemoryError: Unable to allocate 9 GiB", "memory: Unable to allocate 9 GiB;"),
        ("OSError: [Errno 28] No space left\n\nOSError: [Errno 28] No space left: 'p'", "'p': No"),
        ("grpc.FutureTimeoutError", "the runner cannot be started: FutureTimeoutError"),
        ("beam_rnn.errors.WeightsError: 'w.arrow' is cut", "'w.arrow' is cut"),
    ],
)
def test_an_error_of_another_process_is_one_line(of_worker, said):
    trace = (
        f"Traceback (most recent call last):\n  File \"a.py\"\n{of_worker} [while running 'Write']"
    )

    line = in_one_line(RuntimeError(f"bundle failed: {trace}\n\n{trace}\n"))

    assert said in line
    assert "\n" not in line
    assert "while running" not in line


def test_an_unexpected_error_has_a_traceback_and_asks_for_a_bug_report(capsys):
    with pytest.raises(SystemExit, match=r"^error: this is a bug in beam-rnn: please report it"):
        run(lambda: {}["key"])

    assert "KeyError: 'key'" in capsys.readouterr().err


OF_PIPELINES = {
    "anomaly --input in.csv --output in.csv --weights w.arrow": "over --input 'in.csv'",
    "anomaly --input in.csv --output folder.csv --weights w.arrow": "'folder.csv' is a folder",
    "compose --input in.csv --output in.csv": "--output 'in.csv' cannot be a folder",
    "compose --input none.mid --output .": "--input: there is no file 'none.mid'",
    "demo --output in.csv": "--output 'in.csv' cannot be a folder",
    "sentiment --input in.csv --text id --weights w.arrow --output w.arrow": "over --weights",
    "sentiment --input in.csv --text id --label x --output folder.csv": "'folder.csv' is a folder",
    "translate --input in.csv --weights in.csv": "--weights 'in.csv' would be written over --input",
    "translate --task dates --weights w.arrow --output folder.csv": "'folder.csv' is a folder",
    "write --text in.csv --output in.csv": "over --text 'in.csv'",
    "write --text in.csv --output folder.csv": "'folder.csv' is a folder",
}


@pytest.mark.parametrize("command", OF_PIPELINES)
def test_a_pipeline_writes_over_nothing_that_it_reads(command, folder, capsys):
    name, *given = command.split()
    before = contents(folder)

    with pytest.raises(SystemExit) as end:
        run(lambda: importlib.import_module(f"pipelines.{name}").main(given))

    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert OF_PIPELINES[command] in said
    assert contents(folder) == before
