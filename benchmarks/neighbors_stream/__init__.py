"""What streaming, memory maps and checkpoints cost."""
