"""The audit on extractors: cached features, their description in the result, resumed searches."""

import numpy as np
import pytest
import torch

from memfast.auditing import audit
from memfast.features import Preprocessing, open_extractor
from memfast.foundation.errors import InputError


def images(count, seed, shape=(8, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="module")
def sets():
    training, generated = images(60, 0), images(20, 1)
    generated[:6] = training[10:16, :, ::-1]
    training = np.concatenate([training, training[:4]])
    return generated, training, images(30, 2)


class Symmetric(torch.nn.Module):
    """Features that a mirrored copy shares with its original."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += len(x)
        return torch.cat([(x + x.flip(-1)).flatten(1) - 1, (x * x.flip(-1)).flatten(1)], dim=1)


def scores(found):
    values = np.empty(len(found.pairs))
    values[found.pairs.columns["generated"]] = found.pairs.columns["score_similarity"]
    return values


def known(generated, training, module):
    rows = [module(torch.from_numpy(one).permute(0, 3, 1, 2).double() / 255) for one in (generated, training)]
    return (torch.nn.functional.normalize(rows[0]) @ torch.nn.functional.normalize(rows[1]).T).max(dim=1).values.numpy()


def test_a_module_finds_mirrored_copies_and_is_run_once(sets, cache):
    module = Symmetric()
    options = {"features": module, "criteria": ["similarity", "nn_ratio"], "extraction": {"identity": "symmetric"}}
    found = audit(*sets, **options, controls=False)
    np.testing.assert_allclose(scores(found), known(sets[0], sets[1], Symmetric()), atol=1e-6)
    assert (scores(found)[:6] > 0.999).all()
    assert found.criterion("nn_ratio")["generated"]["count"] == 0
    assert module.calls == 20 + 64 + 30
    again = audit(*sets, **options, controls=False)
    assert module.calls == 20 + 64 + 30
    assert again.pairs == found.pairs
    used = found.figures["features"]
    assert (used["name"], used["width"]) == ("Symmetric", 384)
    assert used["preprocessing"] == Preprocessing().to_dict()
    assert used["identity"]["weights"]
    assert (used["identity"]["identity"], used["cacheable"]) == ("symmetric", True)
    assert len(list(cache.iterdir())) == 3


def test_a_module_without_an_identity_is_run_each_time_and_its_controls_can_be_taken_over(sets, cache):
    module = Symmetric()
    found = audit(*sets, features=module, criteria="similarity", planted=2)
    assert found.figures["features"]["cacheable"] is False
    assert not cache.exists() or not any(cache.iterdir())
    calls = module.calls
    again = audit(sets[0][::-1], *sets[1:], features=module, criteria="similarity", planted=2, reuse=found)
    assert module.calls > calls
    assert again.criterion("similarity")["held_out"] == found.criterion("similarity")["held_out"]
    with pytest.raises(InputError):
        audit(*sets, features=Symmetric(), criteria="similarity", planted=2, reuse=found)


def test_partners_are_items_of_the_training_set_as_given(sets):
    found = audit(*sets, features=Symmetric(), criteria="similarity", controls=False)
    rows = {row["generated"]: row for row in found.pairs.rows()}
    assert [rows[index]["partner_similarity"] for index in range(6)] == list(range(10, 16))


def test_float_images_channels_first_give_the_features_of_uint8(sets):
    floats = [np.moveaxis(one, -1, 1).astype(np.float32) / 127.5 - 1 for one in sets]
    found = audit(*floats, features=Symmetric(), criteria="similarity", controls=False)
    assert found.figures["features"]["preprocessing"]["value_range"] == [-1.0, 1.0]
    np.testing.assert_allclose(scores(found), known(sets[0], sets[1], Symmetric()), atol=1e-5)


def test_signals_reach_a_module_as_they_are():
    training = np.random.default_rng(0).normal(size=(40, 33)).astype(np.float32)
    found = audit(training[:5], training, features=torch.nn.Flatten(), criteria="similarity", controls=False)
    assert found.fraction() == 1.0
    assert not found.figures["features"]["preprocessing"]["images"]


@pytest.mark.parametrize("name", ["pixels", "given"])
def test_values_as_features(sets, name):
    found = audit(*sets, features=name, criteria="similarity")
    rows = [one.reshape(len(one), -1).astype(np.float64) for one in sets[:2]]
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in rows]
    np.testing.assert_allclose(scores(found), (unit[0] @ unit[1].T).max(axis=1), atol=1e-6)
    assert found.figures["features"] == {"name": name, "width": 192}
    assert found.figures["positive_control"]["rows"][0]["criteria"]["similarity"]["fraction"] == 1.0


def test_a_named_extractor(sets):
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extractor's package is not installed")
    generated, training, _ = (one[:6] for one in sets)
    found = audit(generated, training, features="efficientnet-lite0", criteria="similarity", controls=False)
    used = found.figures["features"]
    assert (used["name"], used["width"]) == ("efficientnet-lite0", 1280)
    assert used["preprocessing"]["crop_to"] == 224
    assert (np.abs(scores(found)) <= 1 + 1e-6).all()


def test_a_search_of_similarities_goes_on_after_a_kill(sets, tmp_path, monkeypatch):
    from memfast import neighbors

    real, searched = neighbors.knn, []

    def spy(queries, database, k, **options):
        if options.get("metric") == "cosine":
            searched.append(options["checkpoint"].name)
            if len(searched) == 2:
                raise KeyboardInterrupt
        return real(queries, database, k, **options)

    monkeypatch.setattr(neighbors, "knn", spy)
    options = {"features": Symmetric(), "criteria": "similarity", "controls": False, "checkpoint": tmp_path / "kept"}
    with pytest.raises(KeyboardInterrupt):
        audit(*sets, **options)
    assert any((tmp_path / "kept/generated-similar").iterdir())
    found = audit(*sets, **options)
    assert searched == ["generated-similar", "held-out-similar"] * 2
    monkeypatch.undo()
    assert found.pairs == audit(*sets, **{**options, "checkpoint": None}).pairs


def test_extraction_options_reach_the_extractor(sets, tmp_path):
    module = Symmetric()
    preprocessing = Preprocessing(mean=(0.5,), std=(0.5,))
    extraction = {"cache": tmp_path / "own", "batch_size": 7, "preprocessing": preprocessing, "identity": "symmetric"}
    found = audit(*sets, features=module, criteria="similarity", controls=False, extraction=extraction)
    assert found.figures["features"]["preprocessing"]["mean"] == [0.5]
    assert len(list((tmp_path / "own/features").iterdir())) == 3
    extractor = open_extractor(module, preprocessing=Preprocessing(mean=(0.5,), std=(0.5,)), device="cpu")
    same = audit(*sets, features=extractor, criteria="similarity", controls=False)
    assert same.pairs == found.pairs


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (
            "no-such-network",
            "features: expected one of efficientnet-lite0.*may also be 'pixels', 'given'",
        ),
        ("missing.onnx", "missing.onnx"),
        (lambda block: np.full((len(block), 2), np.nan), "features of training, item 0: expected finite"),
        (torch.nn.Linear(3, 2), "mat1|shape|expected"),
    ],
    ids=["name", "file", "nan", "shape"],
)
def test_bad_features_are_named(sets, features, text):
    with pytest.raises((InputError, RuntimeError), match=text):
        audit(*sets, features=features, criteria="similarity", controls=False)
