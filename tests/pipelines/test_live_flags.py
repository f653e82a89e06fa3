"""The flags of `pipelines.live` are checked before anything runs."""

import re

import pytest

from beam_rnn.errors import ConfigurationError
from deploy.local.flink import STREAMING
from pipelines import live

TOPICS = [
    "--input=kafka://one:9092/readings?group.id=a",
    "--output=kafka://one:9092/forecasts",
    "--rejected=kafka://one:9092/rejected",
]
FLAGS = ["--weights=models/*.arrow", *TOPICS]


def test_a_runner_must_be_named():
    with pytest.raises(ConfigurationError, match="needs --runner PrismRunner, FlinkRunner or Data"):
        live.parsed(FLAGS)


@pytest.mark.parametrize("runner", live.BATCH_RUNNERS)
def test_a_runner_for_batches_is_refused(runner):
    with pytest.raises(ConfigurationError, match=f"got {runner}, which waits"):
        live.parsed([*FLAGS, "--runner", runner])


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--wiat=3", "--wait"),
        ("--wiat", "--wait"),
        ("--on-model-change=keep", "--on_model_change"),
        ("--job-name=a", "--job_name"),
        ("--checkpoint_interval=1000", "--checkpointing_interval"),
    ],
)
def test_a_misspelled_flag_is_refused(flag, meant):
    with pytest.raises(ConfigurationError, match=f"did you mean {meant}[?]"):
        live.parsed([*FLAGS, "--runner=FlinkRunner", flag, "3"])


def test_a_flag_that_resembles_no_known_one_is_passed_to_the_runner(caplog):
    live.parsed([*FLAGS, "--runner=FlinkRunner", "--zzyzx=3"])

    assert "unknown flag --zzyzx" in caplog.text


def test_the_flags_of_a_runner_are_passed_without_a_warning(caplog):
    live.parsed([*FLAGS, "--runner=FlinkRunner", "--savepoint_path=/s", *STREAMING])

    assert "unknown flag" not in caplog.text


def test_a_relative_path_of_weights_becomes_absolute(tmp_path, monkeypatch):
    """Workers may run in another folder."""
    monkeypatch.chdir(tmp_path)
    args, _ = live.parsed([*FLAGS, "--runner=PrismRunner"])
    assert args.weights == f"{tmp_path}/models/*.arrow"

    args, _ = live.parsed([*TOPICS, "--weights=gs://models/*.arrow", "--runner=PrismRunner"])
    assert args.weights == "gs://models/*.arrow"


def test_the_command_in_the_help_can_be_copied():
    shown = live.parser().format_help()

    assert "\\\\" not in shown
    assert re.search(r"--weights 'models/\*.arrow' \\$", shown, re.MULTILINE)
