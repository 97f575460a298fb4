"""Policies that play episodes. They know `gym_code` and nothing of `train`."""
