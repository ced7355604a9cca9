"""Generated inputs, judged by the programs that own the file formats."""
