"""Immutable values: desired and actual state, findings, actions and the report; pure."""
