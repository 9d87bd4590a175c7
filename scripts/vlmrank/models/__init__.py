"""Models: which there are, where their weights are, and loading one."""
