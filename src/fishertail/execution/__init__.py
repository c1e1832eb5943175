"""How measurements are run: in a rule's job, a call, a training loop or a command, and in their worker processes."""
