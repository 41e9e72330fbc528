"""Features of the sets of an audit; the code stands in `memfast.features.sets`, which `memfast.evaluate` uses too."""

from memfast.features.sets import PLAIN, Extract, open_features

__all__ = ["PLAIN", "Extract", "open_features"]
