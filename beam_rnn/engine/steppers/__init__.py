"""One stepper for each stateful transform."""
