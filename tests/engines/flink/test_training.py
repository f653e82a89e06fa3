"""Training in batch on the cluster: the weights of any other engine, bit for bit."""

import subprocess
import sys

import pytest

from beam_rnn import weights
from deploy.local import ROOT

TRAIN = [
    *(sys.executable, "-m", "pipelines.train"),
    *("--input", "pipelines/data/nab/ec2_*.csv", "--key", "filename", "--time", "timestamp"),
    *("--inputs", "value", "--targets", "value", "--sequence_length", "64", "--hidden", "8"),
    *("--epochs", "2", "--shards", "4", "--seed", "7"),
]
LOCAL = {
    "in this process": ["--runner=FnApiRunner"],
    "two worker processes": [
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ],
}


def train(path, flags):
    """The trained model's digest."""
    run = subprocess.run(  # noqa: S603
        [*TRAIN, f"--output={path}", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return weights.load(path).digest


@pytest.fixture(scope="module")
def digest_on_flink(flink, tmp_path_factory):
    """Of the model that the cluster has trained."""
    path = tmp_path_factory.mktemp("flink") / "weights.arrow"
    return train(path, [*flink.flags(), "--parallelism=2"])


@pytest.mark.parametrize("engine", LOCAL)
def test_four_shards_have_the_weights_of_a_local_run(engine, digest_on_flink, tmp_path):
    digest = train(tmp_path / "weights.arrow", LOCAL[engine])
    print(digest)
    assert digest_on_flink == digest
