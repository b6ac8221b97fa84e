"""Mutants that survive since they change nothing that can be seen, each with the reason."""

# By file, and a part of what the mutant is called.
EQUIVALENT = {}
