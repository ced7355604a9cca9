"""Decisions: verdicts, plans, back-off, contention and remedies; pure."""
