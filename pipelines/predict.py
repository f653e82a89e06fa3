r"""Stream files of records through a trained network: `beam-rnn predict`.

    python -m pipelines.predict --input 'pipelines/data/nab/*.csv' --weights weights.arrow \
        --output predictions.csv

The pipeline (flags, graph, main) is in beam_rnn/cli/predict.py.
"""

from beam_rnn.cli import run
from beam_rnn.cli.predict import build, main, parse

__all__ = ["build", "main", "parse"]

if __name__ == "__main__":
    run(main)
