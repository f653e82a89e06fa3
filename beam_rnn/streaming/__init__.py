"""The engine on Beam's state and timers: what runs on a worker of a stream.

`keyed_dofn` steps each key alone, its state in `key_cells`; `shard_dofn` steps the keys of a shard
together, and stores them as a log. `sources` makes what steps, from the models of `model_loader`.
Results go to their `outputs` or, of shards, become rows or Arrow batches (`emission`).
`whole_sequences` runs sequences that are complete.
"""

import beam_rnn.streaming.quiet_beam  # noqa: F401  # before anything else imports Beam
