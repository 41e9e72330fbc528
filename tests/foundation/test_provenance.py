"""Provenance says what it should, and equal content has equal hashes."""

import hashlib

import numpy as np

from memfast.foundation import provenance


def test_content_hash_is_sha256_of_dtype_shape_and_values():
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    expected = hashlib.sha256(b"|u1(3, 4)" + array.tobytes()).hexdigest()
    assert provenance.content_hash(array) == expected
    assert provenance.content_hash(np.asfortranarray(array)) == expected
    assert provenance.content_hash(array.reshape(4, 3)) != expected
    assert provenance.content_hash(array.astype(np.int8)) != expected


def test_large_arrays_are_hashed_in_blocks():
    array = np.random.default_rng(0).integers(0, 256, (40, 1 << 20), dtype=np.uint8)
    expected = hashlib.sha256(f"|u1{array.shape}".encode() + array.tobytes()).hexdigest()
    assert provenance.content_hash(array) == expected


def test_versions_and_machine():
    assert {"python", "torch", "numpy"} <= provenance.versions().keys()
    assert provenance.machine()["cores"] >= 1
