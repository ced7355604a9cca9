"""The configuration: files and built-in profiles to the desired state."""
