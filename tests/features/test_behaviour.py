import functools
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch.nn import functional

from memfast.features import extract
from memfast.features.behaviour import behaviour_hash

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)


class Uses(torch.nn.Module):
    """Does what one attribute says, whatever that is."""

    def __init__(self, what, name="what"):
        super().__init__()
        object.__setattr__(self, name, what)

    def forward(self, images):
        what = getattr(self, "what", None) or self._what
        what = what.get("by", what) if isinstance(what, dict) else what
        means = images.mean(dim=(2, 3))
        return what(means) if callable(what) else means * float(getattr(what, "by", what))


class Inner(torch.nn.Module):
    def __init__(self, exponent: float):
        super().__init__()
        self.exponent = float(exponent)

    def forward(self, images):
        return images.mean((2, 3)) ** self.exponent


class Settings:
    def __init__(self, by):
        self.by = by


class WithoutGradients(torch.nn.Module):
    @torch.no_grad()
    def forward(self, images):
        return images.mean(dim=(2, 3))


class WithoutGradientsEither(torch.nn.Module):
    @torch.no_grad()
    def forward(self, images):
        return images.amax(dim=(2, 3))


WithoutGradientsEither.__qualname__ = WithoutGradients.__qualname__


def enclosing(factor):
    return lambda means: means * factor


def hooked(factor):
    module = Inner(1)
    module.register_forward_hook(lambda module, inputs, output: output * factor)
    return module


def replaced(function):
    module = Inner(1)
    module.forward = lambda images: function(images, dim=(2, 3))
    return module


PAIRS = {
    "functions": (Uses(functional.relu), Uses(functional.gelu)),
    "lambdas": (Uses(lambda means: means + 1), Uses(lambda means: means + 2)),
    "closures": (Uses(enclosing(1)), Uses(enclosing(2))),
    "partials": (Uses(functools.partial(torch.add, other=1)), Uses(functools.partial(torch.add, other=2))),
    "dicts": (Uses({"by": 1}), Uses({"by": 2})),
    "tensors": (Uses(torch.tensor(1.0)), Uses(torch.tensor(2.0))),
    "arrays": (Uses(np.array(1.0)), Uses(np.array(2.0))),
    "numbers of numpy": (Uses(np.float64(1)), Uses(np.float64(2))),
    "objects": (Uses(Settings(1)), Uses(Settings(2))),
    "private attributes": (Uses(1, "_what"), Uses(2, "_what")),
    "hooks": (hooked(1), hooked(2)),
    "another forward": (replaced(torch.mean), replaced(torch.amax)),
    "a decorated forward": (WithoutGradients(), WithoutGradientsEither()),
    "graphs": (torch.fx.symbolic_trace(Inner(1)), torch.fx.symbolic_trace(Inner(2))),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_what_acts_differently_never_shares_a_cache(kind, tmp_path):
    first, second = (extract(PIXELS, module, cache=tmp_path) for module in PAIRS[kind])
    assert first.key != second.key
    assert not np.array_equal(first.values, second.values)
    assert extract(PIXELS, PAIRS[kind][0], cache=tmp_path).reused == len(PIXELS), "but what acts alike does"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["scripted", "traced", "a part scripted"])
def test_scripted_modules_count_with_their_program(how, tmp_path):
    def make(exponent):
        module = torch.nn.Sequential(Inner(exponent), torch.nn.Flatten())
        if how == "traced":
            return torch.jit.trace(module, torch.rand(2, 3, 6, 6))
        if how == "scripted":
            return torch.jit.script(module)
        return torch.nn.Sequential(torch.jit.script(module))

    first, second = (extract(PIXELS, make(exponent), cache=tmp_path) for exponent in (1, 2))
    assert first.key != second.key
    np.testing.assert_allclose(second.values, first.values**2, rtol=1e-6)
    assert extract(PIXELS, make(1), cache=tmp_path).reused == len(PIXELS)


def test_what_cannot_be_told_apart_is_not_cached(tmp_path):
    numbers = iter([1.0, 2.0])
    module = Uses(lambda means: means * next(numbers))
    assert behaviour_hash(module) is None
    first, second = (extract(PIXELS, module, cache=tmp_path) for _ in range(2))
    assert first.key != second.key
    np.testing.assert_allclose(second.values, 2 * first.values)
    assert not any(tmp_path.iterdir())


def test_the_hash_is_the_same_in_another_process():
    program = """
import torch
from torch.nn import functional
from memfast.features.behaviour import behaviour_hash
layer = torch.nn.TransformerEncoderLayer(8, 2, activation=functional.gelu)
parts = [layer, torch.nn.BatchNorm2d(3), torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 3))]
module = torch.nn.Sequential(*parts)
module.names, module.many = {"a", "b", "c", "d"}, {"x": (1, 2.5), "y": [None, b"z"]}
print(behaviour_hash(module))
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert len(runs[0].strip()) == 64
    assert runs[0] == runs[1]


def test_many_may_fill_one_cache_at_once(tmp_path):
    found = []

    def run():
        found.append(extract(PIXELS, Inner(2), cache=tmp_path, shard_items=1).values)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for values in found:
        np.testing.assert_array_equal(values, extract(PIXELS, Inner(2), cache=False).values)
    assert sorted(path.suffix for path in tmp_path.rglob("*.*") if path.is_file()) == [".json"] + 4 * [".npy"]
