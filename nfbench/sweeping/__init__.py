"""Sweeps: one run for each combination of some hyperparameters' values, as one table and one plot."""

from nfbench.sweeping.unrolling import points, unroll

__all__ = ["points", "unroll"]
