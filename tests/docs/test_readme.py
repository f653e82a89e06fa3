"""Every block of the README and the docs runs and prints the documented output."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from beam_rnn.cells import CELLS
from beam_rnn.cli import train
from beam_rnn.cli.main import main as beam_rnn
from deploy.local import flink, kafka
from pipelines import demo, live
from pipelines.messages import topic

pytestmark = pytest.mark.pages
ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = FENCE.findall(PAGES[0].read_text())
RUN = ("first-hour.md", "sizing.md")
"""Pages whose `beam-rnn` commands are run too, in one folder with the rest of the page."""
ALONE = ("first-hour.md",)
"""Pages whose python blocks are files of their own: each imports what it needs."""
TABLE_HEAD = "mean absolute error of the next value"


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


def shell_commands():
    joined = "".join(blocks("sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip()]


def commands_of(text):
    """The `beam-rnn` commands of a block, and nothing but what sets up an environment beside."""
    lines = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]
    assert {words[0] for words in lines} <= {"beam-rnn", "mkdir", "cd", "python3", ".", "pip"}
    return [words for words in lines if words[0] == "beam-rnn"]


def words_of(text, within=None):
    """Words, and numbers with a point as numbers: alike if they are within so much."""

    def read(word):
        if not re.fullmatch(r"\d+\.\d+\*?", word):
            return word
        number = float(word.rstrip("*"))
        return number if within is None else pytest.approx(number, abs=within)

    return [read(word) for word in text.split()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_print_the_documented_output(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    printed, expected = [], []
    names = {}
    found = FENCE.findall(page.read_text())
    for (kind, text), following in zip(found, [*found, ("", "")][1:], strict=True):
        if kind == "python":
            names = {} if page.name in ALONE else names
            with mock.patch.dict(CELLS):  # a page may put a cell of its own there
                exec(compile(text, page.name, "exec"), names)  # noqa: S102
            assert following[0] == "text"
        elif kind == "sh" and page.name in RUN:
            for words in commands_of(text):
                beam_rnn(words[1:])
        else:
            continue
        out = capsys.readouterr().out
        shown = following[1] if following[0] == "text" else ""
        if kind == "sh":  # what a command says has errors in it: those of this machine
            assert words_of(out) == words_of(shown, within=0.02)
            continue
        printed.append(sorted(out.splitlines()))
        expected.append(sorted(shown.splitlines()))

    assert printed == expected


def test_each_text_block_is_checked_by_a_test():
    """What follows a python block is checked above, the table below."""
    kinds = [kind for kind, _ in BLOCKS]
    free = [
        BLOCKS[i][1]
        for i, kind in enumerate(kinds)
        if kind == "text" and (i == 0 or kinds[i - 1] != "python")
    ]
    assert [text.startswith(TABLE_HEAD) for text in free] == [True]
    assert set(kinds) == {"python", "text", "sh"}


def test_the_table_of_the_demo(tmp_path):
    """Forecasts that need no model to the digit; the GRU's errors within rounding of machines."""
    (shown,) = (text for text in blocks("text") if text.startswith(TABLE_HEAD))
    demo.main([f"--output={tmp_path}"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    actual = {k.removesuffix(".csv"): v for k, v in metrics["series"].items()}
    actual["mean"] = metrics["mean"]

    rows = [line.split() for line in shown.splitlines()[1:]]
    assert [row[0] for row in rows] == list(actual)
    for row in rows:
        gru, last_value, yesterday = (float(cell.rstrip("*")) for cell in row[-3:])
        errors = actual[row[0]]
        assert errors["last_value_mae"] == pytest.approx(last_value, abs=6e-4)
        assert errors["yesterday_mae"] == pytest.approx(yesterday, abs=6e-4)
        # Far outside of what was learned from, rounding is amplified; the mean holds that series.
        far = row[0] in ("rds_cpu_utilization_cc0c53", "mean")
        assert errors["model_mae"] == pytest.approx(gru, abs=0.15 * gru if far else 0.04)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_make_demo_runs_the_demo():
    assert "make demo" in shell_commands()
    dry = subprocess.run(
        ["make", "--dry-run", "demo"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-m pipelines.demo" in dry.stdout


def test_the_commands_run_as_they_stand(tmp_path):
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    commands = [c for c in shell_commands() if c.startswith("beam-rnn ")]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        asked = [sys.executable, "-m", "beam_rnn", *words[1:]]
        subprocess.run(asked, cwd=tmp_path, check=True)  # noqa: S603

    assert (tmp_path / "predictions.parquet").exists()
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_the_commands_of_the_kafka_page_parse():
    """They run in tests/pipelines/test_live.py, with a broker, and tests/engines/flink."""
    text = (ROOT / "docs" / "kafka.md").read_text()
    shell = "".join(block for kind, block in FENCE.findall(text) if kind == "sh")
    lines = [line for line in shell.replace("\\\n", " ").splitlines() if line]
    started = []
    for line in lines:
        words = shlex.split(line.split("<")[0])
        if words[0] == "make":
            makefile = (ROOT / "Makefile").read_text()
            assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in words[1:])
        elif words[:2] == ["beam-rnn", "train"]:
            assert train.parse(words[2:])[1] == []
        elif words[:3] == ["python", "-m", "pipelines.live"]:
            args, options = live.parsed(words[3:])
            assert all(topic(url).broker == "kafka" for url in (args.input, args.output))
            started.append((live.runner_of(options), args, options, words))
        elif words[:3] == ["python", "-m", "deploy.local.topics"]:
            topics = pytest.importorskip("deploy.local.topics", exc_type=ImportError)
            topics.parser().parse_args(words[3:])
        elif words[:2] == ["python", "-m"]:
            engine = {"deploy.local.kafka": kafka, "deploy.local.flink": flink}[words[2]]
            engine.parser().parse_args(words[3:])
        else:
            assert words[:3] in (["pip", "install", "-U"], ["pip", "install", "-e"])
    assert [runner for runner, *_ in started] == ["PrismRunner", "FlinkRunner"]


def test_the_kafka_page_names_the_ports_and_flags_of_what_it_starts():
    text = (ROOT / "docs" / "kafka.md").read_text()
    command = text[text.index("--runner FlinkRunner") :].split("```")[0]
    words = shlex.split(command.replace("\\\n", " "))
    broker = kafka.parser().parse_args(["kafka"])
    folder = Path("/tmp/flink")  # noqa: S108  # as the page has it
    cluster = flink.parser().parse_args([str(folder)])
    needed = flink.Flink(folder, rest=cluster.rest, job=cluster.job)
    with mock.patch.object(flink.worker, "command", worker_of):
        flags = [part for flag in needed.flags() for part in flag.split("=", maxsplit=1)]

    assert set(flags) <= set(words)
    streaming = {part for flag in flink.STREAMING for part in flag.split("=")} - {"--streaming"}
    assert streaming <= set(words)
    assert f"kafka://127.0.0.1:{broker.port}/readings" in text
    assert f"--expansion_service 127.0.0.1:{broker.expansion_port}" in text


def worker_of(folder, sdk):
    """What `deploy.local.worker.command` says, without the program that it writes."""
    return json.dumps({"command": f"{folder}/worker-{sdk}.sh"})


def test_no_command_is_forgotten():
    known = ("beam-rnn ", "make ", "pip install ")
    assert all(command.startswith(known) for command in shell_commands())
