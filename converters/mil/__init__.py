"""Core ML programs (MIL): passes that extend them during conversion, and a reference interpreter for saved packages."""
