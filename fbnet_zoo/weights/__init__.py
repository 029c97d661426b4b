"""Weights of networks: loaded from files, caches and the Hub, saved, or drawn from a seed."""
