"""The learner: GRPO on a LoRA adapter."""
