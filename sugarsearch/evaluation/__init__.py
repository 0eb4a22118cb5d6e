"""Evaluation: jobs in, records out, in this process or in workers."""
