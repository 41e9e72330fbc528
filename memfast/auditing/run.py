"""`audit`: who in the training set do generated samples copy, and how surely."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memfast.auditing.canaries import came_back
from memfast.auditing.config import AuditConfig
from memfast.auditing.controls import Controls, controls_basis, make_controls
from memfast.auditing.describing import beside_generated, describe_generated, describe_training
from memfast.auditing.features import similarity_search
from memfast.auditing.judging import Judged, criterion_result, per_class, quantiles
from memfast.auditing.near_duplicates import hidden_copies, near_groups
from memfast.auditing.opened import AuditData, OpenedAudit, open_audit
from memfast.auditing.result import AuditResult, make_pairs, project, take_pictures, with_statement
from memfast.auditing.search import TrainingSearch, count_different
from memfast.criteria import Criterion, Evidence, closer_than
from memfast.foundation import provenance
from memfast.foundation.errors import InputError
from memfast.neighbors.duplicates import DuplicateGroups
from memfast.results import (
    AuditFigures,
    AuditInputs,
    CloserThan,
    NearestDistances,
    Parameters,
    Provenance,
    SearchInfo,
    Statement,
)
from memfast.runtime.distributed import Ranks


def audit(
    generated: Any,
    training: Any,
    test: Any = None,
    k: int = AuditConfig.k,
    *,
    criteria: str | Criterion | Iterable[str | Criterion] | None = AuditConfig.criteria,
    require: str | Criterion | Iterable[str | Criterion] = AuditConfig.require,
    features: Any = AuditConfig.features,
    extraction: Mapping[str, Any] | None = AuditConfig.extraction,
    labels: Any = None,
    training_labels: Any = None,
    test_labels: Any = None,
    canaries: Any = None,
    value_range: tuple[float, float] | Mapping[str, tuple[float, float]] | None = AuditConfig.value_range,
    controls: bool = AuditConfig.controls,
    planted: int = AuditConfig.planted,
    confidence: float = AuditConfig.confidence,
    resamples: int = AuditConfig.resamples,
    seed: int = AuditConfig.seed,
    backend: str = AuditConfig.backend,
    memory: int | None = AuditConfig.memory,
    approximate: Any = AuditConfig.approximate,
    near_duplicates: float | DuplicateGroups | None = AuditConfig.near_duplicates,
    checkpoint: str | os.PathLike[str] | None = None,
    pictures: int = AuditConfig.pictures,
    skip_bad: bool = AuditConfig.skip_bad,
    strict: bool = AuditConfig.strict,
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
        require: criteria among them that must apply to this data; where one does not, the audit fails before the
            search.
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
        value_range: the values that mean 0 and 1, ``(low, high)`` for all sets or a mapping with a range for each of
            ``generated``, ``training`` and ``test``. Sets of another range than the training set's are brought to it.
            None: 0 to 255 for uint8; for floats 0 to 1 or -1 to 1 where the training set lies within, otherwise its
            own smallest and largest value. Sets that fill two different ones of these ranges are refused.
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
        strict: fail where a set has entries that are not read (broken links, files of other kinds); without it the
            result counts and names them.
        reuse: the result of an audit of other samples with the same training set, held-out set and options: its
            controls, which say nothing of the samples, are taken over instead of made again.
        progress: show progress.

    Raises:
        InputError: an empty set, other shapes, dtypes or ranges, values that are not finite, k above the training set,
            or a result to reuse that comes from other data or options.

    >>> import numpy as np
    >>> training = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    >>> result = audit(training[:5], training, controls=False)
    >>> result.fraction("nn_ratio")
    1.0
    """
    config = AuditConfig(
        k=k, criteria=criteria, require=require, features=features, extraction=extraction, value_range=value_range,
        controls=controls, planted=planted, confidence=confidence, resamples=resamples, seed=seed, backend=backend,
        memory=memory, approximate=approximate, near_duplicates=near_duplicates, pictures=pictures,
        skip_bad=skip_bad, strict=strict,
    )  # fmt: skip
    data = AuditData(generated, training, test, labels, training_labels, test_labels, canaries)
    folder = None if checkpoint is None else Path(checkpoint)
    return run_audit(config, data, checkpoint=folder, reuse=reuse, progress=progress)


def run_audit(
    config: AuditConfig,
    data: AuditData,
    *,
    checkpoint: Path | None = None,
    reuse: AuditResult | None = None,
    progress: bool = False,
) -> AuditResult:
    """`audit` with its options as one value.

    Args:
        config: the options.
        data: the sets, their labels and the canaries.
        checkpoint: see `audit`, like the rest.
        reuse: see there.
        progress: see there.
    """
    with Ranks.current().fail_together("audit"):
        return _run(config, data, checkpoint, reuse, progress)


def _run(
    config: AuditConfig, data: AuditData, checkpoint: Path | None, reuse: AuditResult | None, progress: bool
) -> AuditResult:
    ranks = Ranks.current()
    earlier = _controls_of(reuse)
    with ranks.fail_together():
        opened = open_audit(config, data, known=None if earlier is None else earlier.scans, progress=progress)
    basis = controls_basis(config, opened)
    if earlier is not None:
        earlier.check(basis)
    with ranks.fail_together():
        prepared = _prepare(config, opened, earlier, checkpoint, progress)
    search = prepared.search
    generated = Judged.by(config.chosen, search.evidence(opened.sets.generated, "generated"))
    controls = earlier or make_controls(basis, config, opened, search)
    held_out = None if controls.floor is None else Judged.by(config.chosen, controls.floor)
    figures = _figures(config, opened, prepared, generated, held_out, controls)
    pairs = make_pairs(opened, generated)
    return AuditResult(
        figures,
        pairs,
        take_pictures(opened.sets, pairs, config.pictures),
        _neighbours_found(opened, search, generated, held_out, controls),
        controls,
    )


@dataclass(frozen=True)
class _Prepared:
    """The search that is about to start: over which items, for how many neighbours, by which features."""

    search: TrainingSearch
    features: Mapping[str, Any] | None
    notes: tuple[str, ...]


def _prepare(
    config: AuditConfig, opened: OpenedAudit, earlier: Controls | None, checkpoint: Path | None, progress: bool
) -> _Prepared:
    """Find near-duplicates, extract features, and check that the required criteria will apply."""
    sets, training = opened.sets, opened.distinct
    groups = earlier.groups if earlier is not None else near_groups(
        config.near_duplicates, training, opened.kept, len(sets.training),
        unit=sets.units.unit, memory=config.memory, backend=config.backend, progress=progress,
    )  # fmt: skip
    k, notes = _neighbours(config.k, count_different(training, groups), len(sets.training))
    options = {"backend": config.backend, "memory": config.memory}
    similar, described = None, None
    if "similarities" in config.needs:
        similar, described = similarity_search(
            config.features, opened, search=options, checkpoint=checkpoint, extraction=config.extraction,
            groups=groups, progress=progress,
        )  # fmt: skip
    search = TrainingSearch(
        training,
        k,
        kind=sets.kind,
        unit=sets.units.unit,
        search={**options, "approximate": config.approximate, "progress": progress},
        checkpoint=checkpoint,
        gaps="neighbour_gaps" in config.needs,
        tiles=config.tiles,
        similar=similar,
        groups=groups,
    )
    _check_required(config, search.outline())
    return _Prepared(search, described, tuple(notes))


def _figures(
    config: AuditConfig,
    opened: OpenedAudit,
    prepared: _Prepared,
    generated: Judged,
    held_out: Judged | None,
    controls: Controls,
) -> AuditFigures:
    """Everything that was counted, and its statement."""
    sets, search, statistics = opened.sets, prepared.search, config.statistics
    distances = generated.evidence.rms()
    floor = None if held_out is None else held_out.evidence.rms()
    notes = [*prepared.notes, *sets.notes, *opened.classes.notes]
    notes += hidden_copies(generated.evidence, config.chosen, generated.judgements, joined=search.groups is not None)
    canaries = None
    if opened.canaries is not None:
        canaries = came_back(opened.canaries, sets.scans["training"], generated.judgements, statistics)
    figures = AuditFigures(
        inputs=AuditInputs(
            sets.kind,
            sets.units.words,
            describe_generated(sets, generated.evidence),
            describe_training(opened, search.groups),
            beside_generated(controls.held_out, sets),
        ),
        parameters=_parameters(config, search.neighbours),
        features=prepared.features,
        search=SearchInfo(search.exactness, search.recall, search.completed.get("generated", 0)),
        criteria=tuple(criterion_result(one, generated, held_out, statistics) for one in config.chosen),
        nearest=NearestDistances(quantiles(distances), None if floor is None else quantiles(floor)),
        closer_than_held_out=None if floor is None else _closer_than(distances, floor, config.seed),
        per_class=per_class(generated, held_out, _labels(opened, controls), opened.classes.names, statistics),
        canaries=canaries,
        projection=project(sets, seed=config.seed),
        positive_control=controls.positive,
        notes=tuple(notes),
        provenance=Provenance(provenance.commit(), provenance.versions(), provenance.machine()),
        statement=Statement((), (), (), ()),
    )
    return with_statement(figures)


def _closer_than(generated: np.ndarray, held_out: np.ndarray, seed: int) -> CloserThan:
    found = closer_than(generated, held_out, seed=seed)
    return CloserThan(float(found["closer"]), float(found["p_value"]), int(found["permutations"]))


def _parameters(config: AuditConfig, k: int) -> Parameters:
    joined = config.near_duplicates
    return Parameters(
        k=k, asked_k=config.k, confidence=config.confidence, resamples=config.resamples, seed=config.seed,
        backend=config.backend, approximate=None if config.approximate is None else str(config.approximate),
        near_duplicates="given" if isinstance(joined, DuplicateGroups) else joined, controls=config.controls,
        planted=config.planted,
    )  # fmt: skip


def _labels(opened: OpenedAudit, controls: Controls) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Labels of the generated samples, of the held-out items or what stood in for them, and of the training items."""
    classes = opened.classes
    of_training = None if classes.training is None else classes.training[opened.kept]
    of_test = classes.test
    if controls.own is not None:
        of_test = None if of_training is None else of_training[controls.own]
    return classes.generated, of_test, of_training


def _neighbours(k: int, distinct: int, whole: int) -> tuple[int, list[str]]:
    """How many neighbours there are to know, and a note where they are fewer than the default asks for."""
    if k <= distinct:
        return k, []
    if k != AuditConfig.k and k > whole:
        raise InputError(
            "k", expected=f"at most the {whole} training items", received=str(k), do="Ask for fewer neighbours."
        )
    return distinct, [f"k is {distinct} instead of {k}: there are no more different training items."]


def _check_required(config: AuditConfig, outline: Evidence) -> None:
    for criterion in config.chosen:
        why_not = criterion.why_not(outline) if criterion.name in config.required else None
        if why_not is not None:
            raise InputError(
                f"criterion {criterion.name}",
                expected="a required criterion that applies to this data",
                received=f"one that does not apply, because {why_not}",
                do="Choose another criterion (--criteria).",
            )


def _controls_of(reuse: AuditResult | None) -> Controls | None:
    if reuse is not None and reuse.controls is None:
        raise InputError(
            "reuse", expected="a result of memfast.audit in this process", received="one that was read from files"
        )
    return None if reuse is None else reuse.controls


def _neighbours_found(
    opened: OpenedAudit, search: TrainingSearch, generated: Judged, held_out: Judged | None, controls: Controls
) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
    """Neighbours for `memfast.evaluate`: only exact ones of the training set as it was given."""
    if search.exactness == "approximate" or search.groups is not None or not opened.whole:
        return None
    found = {"generated": generated.evidence}
    if held_out is not None and controls.own is None:
        found["test"] = held_out.evidence
    return {name: (one.squared_distances, one.indices) for name, one in found.items()}
