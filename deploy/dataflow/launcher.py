"""The program of the template's launcher: start `pipelines.live` without waiting for its end."""

from beam_rnn.cli.console import run
from pipelines import live


def start() -> None:
    """Submit the job to Dataflow."""
    live.main()


if __name__ == "__main__":
    run(start)
