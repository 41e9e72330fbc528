"""Machinery that tries to break memfast: kills, failing files, mutated files, hostile text, long life.

``python -m tests.soak --help`` runs each piece; ``make soak`` runs all of them.
"""
