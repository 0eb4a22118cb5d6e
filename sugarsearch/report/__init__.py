"""Report: tables, pictures, and live progress of a study. Matplotlib lives here alone."""
