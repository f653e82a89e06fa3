r"""Train on files of records and write the weights: `beam-rnn train`.

    python -m pipelines.train --input 'pipelines/data/nab/*.csv' --key filename \
        --time timestamp --inputs value --targets value --output weights.arrow

The pipeline (flags, graph, main) is in beam_rnn/cli/train.py.
"""

from beam_rnn.cli import run
from beam_rnn.cli.train import build, main, parse

__all__ = ["build", "main", "parse"]

if __name__ == "__main__":
    run(main)
