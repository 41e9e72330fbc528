"""`audit`: who in the training set do generated samples copy, and how surely."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from memfast.auditing.canaries import add_canaries, came_back, open_canaries
from memfast.auditing.classes import Judged, per_class, read_classes
from memfast.auditing.controls import DEFAULT_PLANTED, Controls, basis, make_controls
from memfast.auditing.describing import describe_inputs
from memfast.auditing.examine import Examiner
from memfast.auditing.inputs import open_inputs
from memfast.auditing.judging import Statistics, judge, quantiles
from memfast.auditing.near import count_different, hidden_copies, near_basis, near_groups
from memfast.auditing.pairs import make_pairs
from memfast.auditing.pictures import DEFAULT_PICTURES, take_pictures
from memfast.auditing.projection import project
from memfast.auditing.result import SCHEMA, AuditResult
from memfast.auditing.similar import similarity_search
from memfast.auditing.statement import statement
from memfast.criteria import AbsoluteTiles, Criterion, Judgement, choose, closer_than
from memfast.criteria.intervals import DEFAULT_CONFIDENCE, DEFAULT_RESAMPLES
from memfast.data import open_source
from memfast.data.canaries import WithCanaries
from memfast.data.subset import Subset
from memfast.foundation import provenance
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups
from memfast.runtime.distributed import Ranks
from memfast.runtime.memory import bytes_allowed

DEFAULT_NEIGHBOURS = 50


def audit(
    generated: Any,
    training: Any,
    test: Any = None,
    k: int = DEFAULT_NEIGHBOURS,
    *,
    criteria: str | Criterion | Iterable[str | Criterion] | None = None,
    features: Any = None,
    extraction: Mapping[str, Any] | None = None,
    labels: Any = None,
    training_labels: Any = None,
    test_labels: Any = None,
    canaries: Any = None,
    value_range: tuple[float, float] | None = None,
    controls: bool = True,
    planted: int = DEFAULT_PLANTED,
    confidence: float = DEFAULT_CONFIDENCE,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    backend: str = "auto",
    memory: int | None = None,
    approximate: Any = None,
    near_duplicates: float | DuplicateGroups | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    pictures: int = DEFAULT_PICTURES,
    skip_bad: bool = False,
    reuse: AuditResult | None = None,
    progress: bool = False,
) -> AuditResult:
    """Compare generated samples with the whole training set.

    Exact duplicates in the training set are found first and collapsed. Every criterion is also applied to held-out
    data (the negative control and floor) and to copies that the audit plants itself (the positive control).

    Args:
        generated: array, tensor, data set, or path; see `memfast.data.open_source`. uint8 images or floats.
        training: the training set, of the same shape and kind of values.
        test: held-out data of the same distribution. Without it, training items are compared with each other instead.
        k: nearest training items to know per sample. The default shrinks to a smaller training set, and says so.
        criteria: names or criteria; None: all that apply. ``nndr`` and ``dcr`` are accepted for ``nn_ratio`` and
            ``absolute``.
        features: for ``similarity``: ``pixels``, ``given`` (items are features) or whatever
            `memfast.features.open_extractor` takes (a module, a file, a name), extracted once and cached; a mapping of
            arrays ``generated``, ``training`` and ``test``; or a function of a block of items.
        extraction: options of `memfast.features.extract`: ``preprocessing``, ``batch_size``, ``device``, ``dtype``,
            ``cache``, ``identity``.
        labels: class of each generated sample, ``[n]``, numbered as in the training set; default: the source's own.
            Gives results per class. Classes with names (folders) are matched by name between the sets.
        training_labels: class of each training item; default: the source's own.
        test_labels: class of each held-out item; default: the source's own. Gives floors per class.
        canaries: known items that the training set held on purpose, which ``training`` need not hold: a
            ``memfast.training.Canaries``, a run's folder, or items. The result says which came back. None: those of
            ``canaries.added_to(data)``, if ``training`` is that.
        value_range: the values that mean 0 and 1; see the result's ``units``.
        controls: whether to run the controls.
        planted: training items that the positive control copies in each way.
        confidence: of all intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap, the permutation test and the planted copies.
        backend: of the search's kernels.
        memory: bytes the search may use.
        approximate: an index for an approximate search; see `memfast.knn`.
        near_duplicates: training items up to this root mean square difference (in [0, 1] units; a chain of them is one
            group) count as one item: of each group a sample's neighbours hold the nearest member only, so that a copy
            of one is not hidden by the other. Or groups of the whole training set from
            `memfast.neighbors.duplicates`, by the similarity of features for example. Finding them compares the
            training set with itself, in every process.
        checkpoint: a folder; a killed audit continues from there with the same result.
        pictures: at most how many pairs keep their pictures.
        skip_bad: leave unreadable items out, and count them.
        reuse: the result of an audit of other samples with the same training set, held-out set and options: its
            controls, which say nothing of the samples, are taken over instead of made again.
        progress: show progress.

    Raises:
        InputError: an empty set, other shapes or dtypes, values that are not finite, k above the training set, or a
            result to reuse that comes from other data or options.

    >>> import numpy as np
    >>> training = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    >>> result = audit(training[:5], training, controls=False)
    >>> result.fraction("nn_ratio")
    1.0
    """
    chosen = choose(criteria)
    statistics = Statistics(confidence, resamples, seed)
    planted = whole_number("planted", planted, least=1)
    pictures = whole_number("pictures", pictures, least=0)
    k = whole_number("k", k, least=1)
    if memory is not None:
        memory = bytes_allowed(memory)
    ranks = Ranks.current()
    with ranks.fail_together():
        known = True
        if canaries is not None:
            canaries, known = open_canaries(canaries)
            training = open_source(training, skip_bad=skip_bad, name="training", progress=progress)
            training, training_labels = add_canaries(training, canaries, training_labels)
        elif isinstance(training, WithCanaries):
            canaries = training.canaries
        inputs = open_inputs(
            generated, training, test, value_range=value_range, skip_bad=skip_bad, progress=progress,
            known=None if reuse is None or reuse.controls is None else reuse.controls.scans,
        )  # fmt: skip
        classes = read_classes(inputs, generated=labels, training=training_labels, test=test_labels)
        kept = inputs.scans["training"].firsts
        distinct = inputs.training if len(kept) == len(inputs.training) else Subset(inputs.training, kept)
        notes = list(classes.notes)
    folder = None if checkpoint is None else Path(checkpoint)
    hashes = {
        "training set": inputs.training.content_hash(),
        "held-out set": None if inputs.test is None else inputs.test.content_hash(),
    }
    options = {
        "k": k, "value range": (inputs.low, inputs.unit), "controls": controls, "planted": planted,
        "confidence": confidence, "resamples": resamples, "seed": seed, "approximate": approximate,
        "near-duplicates": near_basis(near_duplicates), "extraction": None if extraction is None else dict(extraction),
    }  # fmt: skip
    based_on = basis(hashes, chosen, features, options)
    earlier = None if reuse is None else _taken_over(reuse, based_on)
    with ranks.fail_together():
        groups = earlier.groups if earlier is not None else near_groups(
            near_duplicates, distinct, kept, len(inputs.training),
            unit=inputs.unit, memory=memory, backend=backend, progress=progress,
        )  # fmt: skip
        neighbours, fewer = _neighbours(k, count_different(distinct, groups), len(inputs.training))
    similar, used = None, None
    if any(criterion.name == "similarity" for criterion in chosen):
        similar, used = similarity_search(
            features, inputs, kept, search={"backend": backend, "memory": memory}, checkpoint=folder,
            extraction=extraction, groups=groups, progress=progress,
        )  # fmt: skip
    examiner = Examiner(
        distinct,
        neighbours,
        kind=inputs.kind,
        unit=inputs.unit,
        search={"backend": backend, "memory": memory, "approximate": approximate, "progress": progress},
        checkpoint=folder,
        gaps=any(criterion.name == "authenticity" for criterion in chosen),
        tiles=next((one.tiles for one in chosen if isinstance(one, AbsoluteTiles)), 0),
        similar=similar,
        groups=groups,
    )
    evidence = examiner.evidence(inputs.generated, "generated")
    described = describe_inputs(inputs, evidence, distinct, groups)
    found_controls = earlier or make_controls(
        based_on, inputs, examiner, chosen, statistics, controls=controls, planted=planted
    )
    floor, held_out, own = found_controls.floor, found_controls.held_out, found_controls.own
    entries = []
    judgements: dict[str, Judgement] = {}
    floors: dict[str, Judgement] = {}
    for criterion in chosen:
        entry, judgement, of_floor = judge(criterion, evidence, floor, statistics)
        entries.append(entry)
        judgements |= {} if judgement is None else {criterion.name: judgement}
        floors |= {} if of_floor is None else {criterion.name: of_floor}
    known_labels, of_test = None if classes.training is None else classes.training[kept], classes.test
    if own is not None:
        of_test = None if known_labels is None else known_labels[own]
    by_class = per_class(
        Judged(evidence, judgements, classes.generated),
        None if floor is None else Judged(floor, floors, of_test),
        known_labels,
        statistics,
        classes.names,
    )
    pairs = make_pairs(
        inputs.generated, inputs.training, evidence, judgements,
        kept=kept, labels=classes.generated, training_labels=classes.training,
    )  # fmt: skip
    figures = {
        "schema": SCHEMA,
        "inputs": {**described, "held_out": held_out},
        "parameters": {
            "k": neighbours, "asked_k": k, "confidence": confidence, "resamples": resamples, "seed": seed,
            "backend": backend, "approximate": None if approximate is None else str(approximate),
            "near_duplicates": "given" if isinstance(near_duplicates, DuplicateGroups) else near_duplicates,
        },
        "features": used,
        "search": {
            "exactness": examiner.exactness, "recall": examiner.recall,
            "searched_exactly": examiner.completed.get("generated", 0),
        },
        "criteria": entries,
        "nearest": {
            "generated": quantiles(evidence.rms()), "held_out": None if floor is None else quantiles(floor.rms()),
        },
        "closer_than_held_out": None if floor is None else closer_than(evidence.rms(), floor.rms(), seed=seed),
        "per_class": by_class,
        "canaries": None
        if canaries is None
        else came_back(training, canaries, known, inputs.scans["training"], judgements, statistics),
        "projection": project(inputs, seed=seed),
        "positive_control": found_controls.positive,
        "notes": fewer + notes + hidden_copies(evidence, judgements.get("nn_ratio"), joined=groups is not None),
        "provenance": {
            "memfast_commit": provenance.commit(), "versions": provenance.versions(), "machine": provenance.machine(),
        },
    }  # fmt: skip
    figures["statement"] = statement(figures)
    found = {"generated": evidence} | ({} if floor is None or own is not None else {"test": floor})
    whole = (
        examiner.exactness != "approximate"
        and groups is None
        and len(kept) == len(inputs.training)
        and canaries is None
    )
    neighbors = {name: (one.squared_distances, one.indices) for name, one in found.items()} if whole else None
    return AuditResult(figures, pairs, take_pictures(inputs, pairs, pictures), neighbors, found_controls)


def _neighbours(k: int, distinct: int, whole: int) -> tuple[int, list[str]]:
    if k <= distinct:
        return k, []
    if k != DEFAULT_NEIGHBOURS and k > whole:
        raise InputError(
            "k", expected=f"at most the {whole} training items", received=str(k), do="Ask for fewer neighbours."
        )
    return distinct, [f"k is {distinct} instead of {k}: there are no more different training items."]


def _taken_over(reuse: AuditResult, based_on: dict[str, Any]) -> Controls:
    if reuse.controls is None:
        raise InputError(
            "reuse", expected="a result of memfast.audit in this process", received="one that was read from files"
        )
    reuse.controls.check(based_on)
    return reuse.controls
