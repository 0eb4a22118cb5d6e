"""Verdict: what is said of the finalists, on seeds and data that the search never used."""
