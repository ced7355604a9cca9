"""Generated inputs, judged by the programs whose files they are."""
