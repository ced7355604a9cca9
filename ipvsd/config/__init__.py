"""The configuration: from files and built-in profiles to the desired state."""
