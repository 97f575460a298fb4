"""Tasks made by machine: from real packages and from a seed."""
