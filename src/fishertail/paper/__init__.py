"""The paper's figures, tables and claims, from the results of all runs."""
