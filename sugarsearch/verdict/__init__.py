"""The verdict: what the finalists are worth on fresh seeds. The one layer that opens the test split."""
