"""The fused kernel, compiled by numba, of the extra `fast`: see `beam_rnn.nn.kernels`."""
