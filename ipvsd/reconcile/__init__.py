"""The reconciler: look, decide, act, look again."""
