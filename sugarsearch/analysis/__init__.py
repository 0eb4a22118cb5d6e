"""What a trained network is like: its loss around its weights, and what its training costs."""
