"""Learning in the stream: each record is predicted first, then learned from, key by key.

How it learns (`settings`), scaling that follows the stream (`running`, `rescaling`), whether what
was learned is used (`gating`), one update of parameters that are one vector (`flat`, `updating`), a
record after the other (`prequential`), the bytes of a key's state (`learned`), and what does it in
the stateful DoFn (`learners`).
"""
