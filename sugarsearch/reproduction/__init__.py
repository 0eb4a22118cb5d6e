"""Runs a baseline and sets its numbers beside the printed ones."""
