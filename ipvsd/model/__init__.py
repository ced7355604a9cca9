"""Frozen values: what is wanted, seen, found, done and told; pure."""
