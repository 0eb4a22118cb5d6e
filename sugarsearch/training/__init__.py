"""Training: one network or a population of them, epoch by epoch."""
