"""Training on one machine: from sequences to a model; `online` learns record by record."""
