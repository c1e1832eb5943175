"""The figures: a file for each, with its caption."""
