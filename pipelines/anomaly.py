r"""Score the records of files by how unusual each is: `beam-rnn anomalies`.

    python -m pipelines.anomaly --input 'pipelines/data/nab/*.csv' --key filename \
        --time timestamp --inputs value --output scores.csv

The pipeline (flags, graph, main) is in beam_rnn/cli/anomalies.py.
"""

from beam_rnn.cli import run
from beam_rnn.cli.anomalies import build, main, parse

__all__ = ["build", "main", "parse"]

if __name__ == "__main__":
    run(main)
