"""From the winners of comparisons to an order of texts: no I/O, and the only folder that needs NumPy."""
