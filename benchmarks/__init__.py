"""File -> numbers: timing, the machine that it was done on, and the tables and results that come of it."""
