"""Tables for the terminal (at most 100 columns) and for Markdown."""
