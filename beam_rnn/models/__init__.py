"""Trained models: what they compute, their files and the state of a sequence."""
