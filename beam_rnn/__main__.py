"""`python -m beam_rnn` is `beam-rnn`."""

from beam_rnn.cli.main import main

if __name__ == "__main__":
    main()
