"""Networks with their activation injected: a factory of modules is called once for every site."""
