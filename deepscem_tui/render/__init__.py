"""Pure functions from arrays to terminal cells: numpy and rich only."""
