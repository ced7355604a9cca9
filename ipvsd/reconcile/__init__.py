"""The reconciler: observe, plan, act, observe again."""
