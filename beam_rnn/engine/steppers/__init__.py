"""What a record does: one stepper for each stateful transform."""
