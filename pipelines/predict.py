r"""Stream files of records through a trained network: `beam-rnn predict`.

    python -m pipelines.predict --input 'pipelines/data/nab/*.csv' --weights weights.arrow \
        --output predictions.csv

The pipeline, to read or to copy, is in beam_rnn/commands/predict.py: flags, graph, main.
"""

from beam_rnn.commands.predict import build, main, parse
from beam_rnn.commands.running import run

__all__ = ["build", "main", "parse"]

if __name__ == "__main__":
    run(main)
