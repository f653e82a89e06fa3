"""The mathematics of recurrent networks: cells, layers, kernels, losses, optimizers, BPTT. numpy only."""
