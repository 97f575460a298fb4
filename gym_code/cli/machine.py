"""`gym-code doctor`, `gc` and `bench`."""
