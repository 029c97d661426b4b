"""Deployment bundles: a folder with checked files, code that runs them, a model card and a report; and its check."""
