"""Deep narrow nets: learned or collapsed, as one computation for all runs of a cell."""
