"""memfast: control, audit and explain what diffusion models copy from their training data."""

__version__ = "0.1.0"
