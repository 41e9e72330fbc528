"""What every layer may use: errors, files, progress, provenance. Knows nothing of diffusion."""
