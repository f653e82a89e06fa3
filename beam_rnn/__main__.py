"""`python -m beam_rnn` is `beam-rnn`."""

from beam_rnn.commands.main import main

if __name__ == "__main__":
    main()
