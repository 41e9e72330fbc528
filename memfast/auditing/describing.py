"""What a result says about its inputs."""

from typing import Any

from memfast.auditing.inputs import Inputs
from memfast.criteria import Evidence
from memfast.data import Source

LISTED_GROUPS = 100


def describe_inputs(inputs: Inputs, evidence: Evidence) -> dict[str, Any]:
    """Kind, units, the generated and the training set, with hashes, copies and duplicates."""
    training_scan = inputs.scans["training"]
    generated = describe_source(inputs.generated, len(inputs.scans["generated"].firsts))
    generated["exact_copies"] = exact_copies(evidence)
    generated["is_training_set"] = sorted(inputs.scans["generated"].digests) == sorted(training_scan.digests)
    training = describe_source(inputs.training, len(training_scan.firsts))
    training["duplicate_groups"] = len(training_scan.groups)
    training["duplicates"] = [
        [inputs.training.item_name(index) for index in group] for group in training_scan.groups[:LISTED_GROUPS]
    ]
    return {"kind": inputs.kind, "units": inputs.units, "generated": generated, "training": training}


def describe_source(source: Source, distinct: int) -> dict[str, Any]:
    """Name, size, shape, hash and what was left out."""
    return {
        "name": source.name,
        "count": len(source),
        "distinct": distinct,
        "item_shape": list(source.item_shape),
        "dtype": str(source.dtype),
        "sha256": source.content_hash(),
        "conversion": getattr(source, "conversion", None),
        "skipped": [[str(name), str(reason)] for name, reason in source.skipped],
    }


def exact_copies(evidence: Evidence) -> int:
    """How many samples equal a training item in every value."""
    return int((evidence.squared_distances[:, 0] == 0).sum())
