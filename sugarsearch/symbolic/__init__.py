"""Expressions of g: operators, safe parser, interpreter, named surrogates, grammar. Free of torch."""
