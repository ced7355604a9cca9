"""Event sources, one file each: what may have changed, and when to look."""
