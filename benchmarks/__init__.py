"""Speed against the strongest peers: `python -m benchmarks` (or `make bench`); on a GPU `python -m benchmarks.gpu`."""
