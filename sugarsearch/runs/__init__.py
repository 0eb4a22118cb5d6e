"""Runs: a run folder, what it began with, what it found; and comparisons of given surrogates, which need no search."""
