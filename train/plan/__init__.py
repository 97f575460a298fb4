"""What a run would need: sizes of a model, memory, the machine; all laid out before anything starts."""
