"""SugarReLU: ReLU forward, a surrogate backward; admission of a g, self-test of a mode, surgery on a model."""
