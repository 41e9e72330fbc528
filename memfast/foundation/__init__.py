"""What every layer may use: errors, arguments, plug-ins, plain values, provenance. Knows nothing of diffusion."""
