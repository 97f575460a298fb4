"""Trained tokens per second: our update beside the training step of TRL."""
