"""The paper's claims: a file for each, and how they are judged."""
