"""Configuration: the schema of every YAML file, and a loader that reports all faults with their lines.

Free of torch and SymPy, so that a wrong file is refused at once.
"""
