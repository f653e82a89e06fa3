"""The command `beam-rnn`: each of its commands is a pipeline, or looks at a weights file."""
