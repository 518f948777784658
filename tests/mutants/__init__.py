"""Protections broken on purpose in a copy of the tree, to see that a test fails for each: `make mutants`."""
