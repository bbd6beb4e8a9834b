"""Experiments of the papers that are no matrix of defenses and attacks."""
