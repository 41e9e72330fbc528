"""The kept index: what its sketches leave to measure, and its time against brute force."""
