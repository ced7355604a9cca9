"""Properties that hold for whatever an input format may bring, and inputs that once broke one of them."""
