"""Isolated boxes that hold a copy of a task; every backend passes one contract."""
