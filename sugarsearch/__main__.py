"""`python -m sugarsearch`: the command line."""

from sugarsearch.cli import main

main()
