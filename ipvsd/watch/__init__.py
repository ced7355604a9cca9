"""Event sources, one file each; an event names the item to check."""
