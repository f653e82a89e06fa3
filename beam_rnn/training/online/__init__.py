"""Online learning: each record is predicted first, then learned from, key by key.

The settings (`settings`), scaling by running statistics (`running_scaler`, `rescaling`), the choice
between the base model and the learned one (`gate`), one update of parameters that are one vector
(`flat_parameters`, `updates`), one record after the other (`prequential`), and the bytes of a key's
state (`learned_format`). `beam_rnn.engine.steppers.learn` runs it.
"""
