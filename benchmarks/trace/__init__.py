"""Paper 2's measurements: the test bed that memorizes on purpose, and what tracing costs."""
