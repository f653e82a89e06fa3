"""Beam's boot program installs beam_rnn on workers that have Beam only, as in its images.

The boot program asks the runner for the staged packages, has pip install them, and starts the
worker. Here Prism starts it in a process; in an image it is the entry point.
"""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Timer

import pytest

from beam_rnn import weights as weights_file
from beam_rnn.testing import oracle
from deploy.local import ENGINES, ROOT
from tests.helpers.models import random_model, saved

BOOT, PRISM = ENGINES / "boot", ENGINES / "prism"
WORKER = Path(os.environ.get("WORKER", ROOT / ".venv-worker"))
"""An environment that has Beam alone."""

missing = [str(path) for path in (BOOT, PRISM, WORKER / "bin" / "python") if not path.exists()]
pytestmark = [
    pytest.mark.packages,
    pytest.mark.skipif(bool(missing), reason=f"make test-packages; missing: {missing}"),
]

ROWS = [{"id": key, "t": t, "x": float(t % 5), "y": 1.0} for t in range(20) for key in "ab"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The wheels of the library and of the pipelines."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, folder, ROOT, ROOT / "deploy" / "worker"], check=True)  # noqa: S603
    (library,) = folder.glob("beam_rnn-*.whl")
    (pipelines,) = folder.glob("beam_rnn_pipelines-*.whl")
    return library, pipelines


@pytest.fixture
def worker(tmp_path):
    """A fresh environment on top of that with Beam, and the flags that start its worker."""
    environment = tmp_path / "environment"
    python = WORKER / "bin" / "python"
    make = [python, "-m", "venv", "--without-pip", environment]
    subprocess.run(make, check=True)  # noqa: S603
    (packages,) = environment.glob("lib/python*/site-packages")
    (beam_s,) = WORKER.glob("lib/python*/site-packages")
    (packages / "beam.pth").write_text(f"{beam_s}\n")
    boot = tmp_path / "boot.sh"
    boot.write_text(f"""\
#!/bin/sh
# Prism 2.77 puts quotes around the worker's id.
for argument; do shift; set -- "$@" "$(printf %s "$argument" | tr -d "'")"; done
unset PYTHONPATH
cd {shlex.quote(str(environment))}
export PATH={shlex.quote(str(environment / "bin"))}:$PATH RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
exec {shlex.quote(str(BOOT))} --semi_persist_dir={shlex.quote(str(tmp_path / "staged"))} "$@"
""")
    boot.chmod(0o755)
    config = json.dumps({"command": str(boot)})
    return packages, [
        "--runner=PrismRunner",
        f"--prism_location={PRISM}",
        "--environment_type=PROCESS",
        f"--environment_config={config}",
    ]


@pytest.fixture
def files(tmp_path):
    """Records, weights, and where the predictions go."""
    source = tmp_path / "records.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    return source, saved(random_model(), tmp_path), tmp_path / "predictions.csv"


PREDICT = """
import sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from beam_rnn import Predict

weights, output, *flags = sys.argv[1:]
rows = {rows}
with beam.Pipeline(options=PipelineOptions(flags)) as p:
    outputs = p | beam.Create(rows) | Predict(weights)
    lines = outputs.predictions | beam.Reshuffle() | beam.Map(
        lambda row: f"{{row.key}},{{row.step}},{{row.outputs[0].hex()}}")
    lines | beam.io.WriteToText(output, shard_name_template="")
"""
"""A pipeline of a user: one file, and predictions, which are registered rows, through a shuffle."""


def run(program, *arguments, seconds=240):
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )


def predicted_rows(weights):
    """Return the predictions of a worker without numba."""
    said = oracle(weights_file.load(weights).with_kernel("numpy"), ROWS).predictions
    return sorted(f"{row.key},{row.step},{row.outputs[0].hex()}" for row in said)


def write_program(folder):
    program = folder / "forecast.py"
    program.write_text(PREDICT.format(rows=ROWS))
    return program


def predict(tmp_path, files, *flags):
    _, weights, output = files
    return run([write_program(tmp_path)], weights, output, *flags)


@pytest.mark.parametrize("how", ["extra_package", "setup_file"])
def test_a_worker_installs_what_is_staged(how, wheels, worker, files, tmp_path):
    """And predicts with it, to the bit."""
    packages, flags = worker
    given = {
        "extra_package": [f"--extra_package={wheels[0]}"],
        # Hatchling, which builds beam_rnn, is not on workers: pip must be told to fetch it.
        "setup_file": [
            f"--setup_file={ROOT / 'pyproject.toml'}",
            "--experiments=pip_use_build_isolation",
        ],
    }
    result = predict(tmp_path, files, *flags, *given[how], "--save_main_session")

    assert result.returncode == 0, result.stderr[-2000:]
    assert (packages / "beam_rnn" / "__init__.py").exists()
    assert sorted(files[2].read_text().splitlines()) == predicted_rows(files[1])


def test_the_source_alone_is_not_enough(worker, files, tmp_path):
    """The worker says what it could not install, and stops; Prism goes on waiting for it."""
    program = write_program(tmp_path)
    _, weights, output = files
    flags = [*worker[1], f"--setup_file={ROOT / 'pyproject.toml'}"]
    launch = subprocess.Popen(  # noqa: S603
        [sys.executable, program, weights, output, *flags],
        cwd=ROOT,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = partial(os.killpg, launch.pid, signal.SIGKILL)
    deadline = Timer(240, end)
    deadline.start()
    try:
        said = "".join(takewhile(lambda line: "process failed" not in line, launch.stdout))
    finally:
        deadline.cancel()
        end()
        launch.wait()

    assert "failed to install workflow" in said


def test_the_pipelines_run_on_a_worker_that_has_both_wheels(wheels, worker, files):
    packages, flags = worker
    source, weights, output = files
    names = [f"--input={source}", f"--weights={weights}", f"--output={output}"]
    staged = [f"--extra_package={wheel}" for wheel in wheels]
    result = run(["-m", "pipelines.predict"], *names, *flags, *staged, "--save_main_session")

    assert result.returncode == 0, result.stderr[-2000:]
    assert (packages / "pipelines" / "predict.py").exists()
    with output.open() as file:
        assert len(list(csv.DictReader(file))) == len(ROWS)


def test_a_worker_without_the_package_says_so(worker, files, tmp_path):
    result = predict(tmp_path, files, *worker[1])

    assert result.returncode != 0
    assert "ModuleNotFoundError: No module named 'beam_rnn'" in result.stderr
