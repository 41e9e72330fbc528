"""What can be traced: a run of memfast, and a diffusers pipeline."""
