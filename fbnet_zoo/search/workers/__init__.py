"""Tasks in processes of their own, on this machine or on a Ray cluster, that survive workers which die or hang."""
