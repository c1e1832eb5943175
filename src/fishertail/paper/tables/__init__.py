"""The tables over all runs: a file for each, with its caption."""
