"""What a GPU does with the trainer: tokens a second, whole steps, a policy that learns."""
