"""The robustness card: one page for a validation file, as HTML and PDF."""
