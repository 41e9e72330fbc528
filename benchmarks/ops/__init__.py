"""The ops on a CPU against eager PyTorch, torch.compile of the plain code, diffusers, and a plain copy."""
