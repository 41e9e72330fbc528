"""An audit reads blocks of bounded size, however large its images and however many of them are equal."""

import numpy as np
import pytest

import memfast
from memfast.auditing import controls, scan, search
from memfast.auditing.opened import open_sets
from memfast.auditing.result import pictures, project
from memfast.data import ArraySource

GENERATOR = np.random.default_rng(5)


class Watched(ArraySource):
    """Notes how many bytes each reading takes."""

    largest = 0

    def block(self, start, stop):
        return self._noted(super().block(start, stop))

    def take(self, indices):
        return self._noted(super().take(indices))

    def _noted(self, items):
        self.largest = max(self.largest, items.nbytes)
        return items


@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=["uint8", "float32"])
def test_worst_tiles_read_few_large_images_at_once(dtype, monkeypatch):
    training, generated = (GENERATOR.integers(0, 256, (count, 64, 64)).astype(dtype) for count in (60, 30))
    generated[:4, :16] = training[:4, :16]
    options = {"criteria": ["absolute_tiles"], "controls": False, "k": 20, "pictures": 0, "value_range": (0, 255)}
    whole = memfast.audit(generated, training, **options)
    limit = 5 * 20 * training[0].nbytes
    monkeypatch.setattr(search, "TILE_BYTES", limit)
    examiner = search.TrainingSearch(Watched(training), 20, kind="images", unit=255.0, gaps=False, tiles=4)
    _, indices = examiner._knn(ArraySource(generated), "generated", 20)
    examiner.training.largest = 0
    found = examiner._tiles(ArraySource(generated), indices)
    assert 0 < examiner.training.largest <= limit
    order = np.argsort(whole.pairs.columns["generated"])
    np.testing.assert_array_equal(found.min(axis=1), np.array(whole.pairs.columns["score_absolute_tiles"])[order])


def test_a_set_of_equal_items_is_compared_in_blocks(monkeypatch):
    items = Watched(np.zeros((200, 8, 8), np.uint8))
    monkeypatch.setattr(scan, "BLOCK_BYTES", 10 * 64)
    assert scan.scan("training", items).groups == (tuple(range(200)),)
    assert items.largest == 10 * 64


def test_the_neighbours_own_neighbours_are_searched_in_blocks():
    training = GENERATOR.integers(0, 256, (800, 32, 32), dtype=np.uint8)
    examiner = search.TrainingSearch(Watched(training), 2, kind="images", unit=255.0, search={"memory": 1 << 18})
    samples = training[:600] ^ 1
    evidence = examiner.evidence(ArraySource(samples), "generated")
    assert examiner.training.largest < 1 << 18 < samples.nbytes
    assert (evidence.indices[:, 0] == np.arange(600)).all()
    others = ((training[:3, None].astype(np.int64) - training[None].astype(np.int64)) ** 2).sum(axis=(2, 3))
    np.testing.assert_array_equal(evidence.neighbour_gaps[:3], np.sort(others, axis=1)[:, 1])


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8), (50,)], ids=["images", "channels first", "signals"])
def test_planted_copies_of_large_items_are_made_in_parts_with_the_same_figures(shape, monkeypatch):
    dtype = np.float32 if shape == (50,) else np.uint8
    training, generated = (GENERATOR.integers(0, 256, (count, *shape)).astype(dtype) for count in (60, 5))
    options = {"planted": 20, "k": 5, "pictures": 0, "features": "pixels"}
    whole = memfast.audit(generated, training, **options)
    stages, real = [], search.TrainingSearch.evidence

    def noted(self, samples, stage, **more):
        stages.append((stage, len(samples)))
        return real(self, samples, stage, **more)

    monkeypatch.setattr(search.TrainingSearch, "evidence", noted)
    monkeypatch.setattr(controls, "PLANTED_BYTES", 32 * 7 * training[0].size)
    parts = memfast.audit(generated, training, **options)
    planted = [count for stage, count in stages if stage.startswith("planted")]
    assert len(planted) > 1
    assert sum(planted) == 20 * len(whole.found.positive_control.rows)
    assert parts.found.positive_control == whole.found.positive_control


def test_pictures_and_projection_read_few_large_images_at_once(monkeypatch):
    training, generated = (GENERATOR.integers(0, 256, (count, 40, 40), dtype=np.uint8) for count in (60, 30))
    whole = memfast.audit(generated, training, controls=False)
    monkeypatch.setattr(pictures, "BLOCK_BYTES", 8 * 5 * 1600)
    known, samples = Watched(training), Watched(generated)
    monkeypatch.setattr(scan, "BLOCK_BYTES", 5 * 1600)
    sets = open_sets(samples, known)
    parts = pictures.take_pictures(sets, whole.pairs)
    assert project(sets) == whole.found.projection
    assert known.largest == samples.largest == 5 * 1600
    assert np.array_equal(parts.training, whole.pictures.training)
