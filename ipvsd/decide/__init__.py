"""Decisions: what is right, what to do, what to leave alone, and what a person can do; pure."""
