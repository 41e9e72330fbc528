"""Results unpack, compare and print as users expect; names of earlier versions warn."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import memfast
from memfast import neighbors

ROWS = np.random.default_rng(0).integers(0, 256, (20, 6), dtype=np.uint8)


def test_neighbors_unpack_as_distances_and_indices():
    found = memfast.knn(ROWS[:3], ROWS, 2)
    distances, indices = found
    assert distances is found.squared_distances
    assert indices is found.indices
    assert len(found) == 3


def test_neighbors_compare_by_their_numbers():
    found = memfast.knn(ROWS, ROWS, 2)
    assert found == memfast.knn(ROWS, ROWS, 2)
    assert found != memfast.knn(ROWS, ROWS, 3)
    assert found != memfast.knn(ROWS[::-1].copy(), ROWS, 2)
    assert found != memfast.knn(ROWS.astype(np.float32), ROWS, 2)
    assert found != "something else"
    tensor = torch.from_numpy(ROWS)
    assert memfast.knn(tensor, ROWS, 2) == memfast.knn(tensor, ROWS, 2)
    product = memfast.knn(ROWS, ROWS, 2, metric="inner_product")
    assert product == memfast.knn(ROWS, ROWS, 2, metric="inner_product")
    assert product != found


def test_neighbors_print_in_one_short_line():
    assert repr(memfast.knn(ROWS, ROWS, 2)) == "Neighbors(20 queries, k=2, exact, metric='euclidean')"


@pytest.mark.parametrize(("old", "new"), [("within", "range_search"), ("Pairs", "RangeSearchResult")])
def test_old_names_warn_and_work(old, new):
    with pytest.warns(DeprecationWarning, match=rf"memfast\.neighbors\.{old} is deprecated.*{new}"):
        assert getattr(neighbors, old) is getattr(neighbors, new)
    assert old not in neighbors.__all__


MANY = """
import resource
import numpy as np
from memfast.neighbors import duplicates
equal = np.zeros((8000, 64), np.uint8)
near = equal.copy()
near[np.arange(8000), np.arange(8000) % 64] = np.arange(8000) // 64
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert not duplicates(equal, radius_squared=100_000).representative.any()
assert not duplicates(near, radius_squared=100_000).representative.any()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_thousands_of_placeholder_images_need_little_memory():
    """8,000 equal items, and 8,000 that are all near each other: 32 million pairs, never held at once."""
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 600
