"""sugarsearch: search for a better backward pass of ReLU."""
