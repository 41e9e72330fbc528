"""Everything that needs a GPU: `python -m benchmarks.gpu --out DIR` builds, tests, measures and writes one table."""
