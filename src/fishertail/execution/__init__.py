"""How measurements are run: in a rule's job or a call of `analyse_run`, and in their worker processes."""
