"""Recurrent networks in numpy: cells, layers, kernels, losses, optimizers, BPTT."""
