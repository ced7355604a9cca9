"""Properties that hold for every possible input of a format, and inputs that once violated one."""
