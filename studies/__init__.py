"""The claims that memfast builds on, re-run on real data: one study a claim, one page for all (docs/evidence.md)."""
