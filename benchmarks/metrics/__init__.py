"""Benchmarks of the metrics."""
