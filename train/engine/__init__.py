"""Engines that sample tokens for the trainer."""
