"""What a result says about its inputs."""

from typing import Any

from memfast.auditing.inputs import Inputs
from memfast.criteria import Evidence
from memfast.data import Source
from memfast.neighbors.duplicates import DuplicateGroups

LISTED_GROUPS, LISTED_MEMBERS = 100, 100


def describe_inputs(
    inputs: Inputs, evidence: Evidence, distinct: Source, near: DuplicateGroups | None
) -> dict[str, Any]:
    """Kind, units, the generated and the training set, with hashes, copies, duplicates and near-duplicates."""
    training_scan = inputs.scans["training"]
    generated = describe_source(inputs.generated, len(inputs.scans["generated"].firsts))
    generated["exact_copies"] = exact_copies(evidence)
    generated["is_training_set"] = sorted(inputs.scans["generated"].digests) == sorted(training_scan.digests)
    training = describe_source(inputs.training, len(training_scan.firsts))
    training["duplicate_groups"] = len(training_scan.groups)
    training["duplicates"] = [
        [inputs.training.item_name(index) for index in group] for group in training_scan.groups[:LISTED_GROUPS]
    ]
    training["near_duplicates"] = None if near is None else _describe_groups(near, distinct)
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


def _describe_groups(groups: DuplicateGroups, items: Source) -> dict[str, Any]:
    """How many groups of two or more there are, the items in them, and names in the first groups."""
    several = groups.groups
    sizes = [len(group) for group in several]
    return {
        "groups": len(several),
        "items": sum(sizes),
        "largest": max(sizes, default=1),
        "listed": [[items.item_name(int(one)) for one in group[:LISTED_MEMBERS]] for group in several[:LISTED_GROUPS]],
    }
