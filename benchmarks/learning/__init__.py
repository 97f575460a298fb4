"""Does it learn: seeds, a control, every objective, and another trainer beside ours."""
