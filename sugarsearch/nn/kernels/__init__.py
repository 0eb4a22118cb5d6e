"""The kernels that compute grad * g(x), and which is used where."""
