"""Processes, memory and files: the only place that knows of ranks, containers' limits and half-written files."""
