"""Runtimes of converted files, one per module, each in its own process."""
