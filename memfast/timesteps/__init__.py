"""timesteps."""
