"""Commands that are killed while they write: the old file stays, and the next run works."""

import signal
import subprocess
import sys

from beam_rnn import weights
from beam_rnn.cli import train
from beam_rnn.training.model_files import newest
from tests.helpers.models import random_model

KILL = """
import importlib, json, os, signal, sys

from beam_rnn.core import atomic_files as atomic

# Between the last byte of the temporary file and its new name.
atomic._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)
ended = {}
for line in sys.stdin:
    child = os.fork()
    if not child:
        module, *flags = line.split()
        importlib.import_module(module).main(flags)
        os._exit(0)
    ended[line] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(list(ended.values())))
"""
TRAIN = "--input in.csv --key id --time t --inputs x --epochs 1 --hidden 2"
COMMANDS = {
    f"beam_rnn.cli.train {TRAIN} --output out.arrow": "out.arrow",
    f"beam_rnn.cli.train {TRAIN} --output new.arrow --checkpoints c": "c-00001.arrow",
    "beam_rnn.cli.predict --input in.csv --weights w.arrow --output out.csv": "out.csv",
    "beam_rnn.cli.evaluate --input in.csv --weights w.arrow --output out.json": "out.json",
    "beam_rnn.cli.report --input in.csv --weights w.arrow --output out.html": "out.html",
    "beam_rnn.cli.convert --input w.arrow --output other.arrow": "other.arrow",
}
"""Each command, and the file that it was writing when it was killed."""


def test_a_command_that_is_killed_leaves_the_old_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights.save(random_model(), "w.arrow")
    rows = "".join(f"{'ab'[i % 2]},{3600 * i},{i % 5},{i % 3}\n" for i in range(40))
    (tmp_path / "in.csv").write_text(f"id,t,x,y\n{rows}")
    for name in COMMANDS.values():
        (tmp_path / name).write_text("old")
    before = {path.name for path in tmp_path.iterdir()}

    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", KILL],
        input="\n".join(COMMANDS),
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.splitlines()[-1] == str([-signal.SIGKILL] * len(COMMANDS))
    assert {(tmp_path / name).read_text() for name in COMMANDS.values()} == {"old"}
    left = {path.name for path in tmp_path.iterdir()} - before
    assert sorted(name.rsplit(".", 2)[0][1:] for name in left) == sorted(COMMANDS.values())
    assert all(name.startswith(".") and name.endswith(".part") for name in left)

    train.main([*TRAIN.split(), "--output=out.arrow"])
    assert newest("*") == "./w.arrow"
    assert weights.load("out.arrow").network.hidden == 2
