"""Search: a study from its first candidate to its final table. Optuna lives here alone."""
