"""The networks: shapes, labels, configurations, weights from elsewhere, the form of items."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from memfast import models
from memfast.foundation.errors import CheckpointError, InputError
from memfast.models.embedding import timestep_features

SMALL = [
    {"kind": "mlp", "item_shape": [1, 14, 14], "width": 32},
    {"kind": "mlp", "item_shape": [1, 63], "width": 33},
    {"kind": "unet1d", "item_shape": [1, 140], "widths": [8, 16]},
    {"kind": "unet1d", "item_shape": [3, 63], "widths": [8, 12, 16], "layers": 2},
    {"kind": "unet1d", "item_shape": [1, 1], "widths": [8, 8]},
    {"kind": "unet2d", "item_shape": [1, 28, 28], "widths": [8, 16]},
    {"kind": "unet2d", "item_shape": [3, 7, 13], "widths": [8, 8, 8], "attention": [False, False, False]},
]


@pytest.mark.parametrize("config", SMALL, ids=lambda c: f"{c['kind']}-{'x'.join(map(str, c['item_shape']))}")
@pytest.mark.parametrize("classes", [None, 3], ids=["plain", "classes"])
def test_every_network_keeps_the_shape_and_learns_from_x_t_and_label(config, classes):
    torch.manual_seed(0)
    model = models.build({**config, "num_classes": classes})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t = torch.randn(2, *config["item_shape"]), torch.tensor([3, 800])
    labels = None if classes is None else torch.tensor([0, 2])
    output = model(x, t, labels)
    assert output.shape == x.shape
    assert torch.isfinite(output).all()
    assert not torch.allclose(output, model(x, t.flip(0), labels))
    output.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    if classes is None:
        with pytest.raises(InputError, match="labels: expected None"):
            model(x, t, torch.tensor([0, 2]))
    else:
        assert not torch.allclose(output, model(x, t, torch.tensor([1, 1])))
        torch.testing.assert_close(model(x, t), model(x, t, torch.tensor([3, 3])))


@pytest.mark.parametrize("config", SMALL[:4], ids=lambda c: c["kind"])
def test_a_configuration_survives_json_and_builds_the_same_network(config):
    model = models.build(config)
    again = models.build(json.loads(json.dumps(model.memfast_config)))
    assert again.memfast_config == model.memfast_config
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


def test_timestep_features_are_the_sinusoids_of_diffusers():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    t = torch.tensor([0, 1, 500, 999])
    theirs = embeddings.get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(timestep_features(t, 64), theirs)


def test_unknown_kinds_and_options_are_named():
    with pytest.raises(InputError, match="expected one of mlp, unet1d, unet2d"):
        models.build({"kind": "vit", "item_shape": [1, 8, 8]})
    with pytest.raises(InputError, match="received widht"):
        models.build({"kind": "mlp", "item_shape": [1, 8, 8], "widht": 3})
    with pytest.raises(InputError, match="item_shape"):
        models.build({"kind": "mlp"})
    with pytest.raises(InputError, match="item_shape: expected"):
        models.suggest((3,))


@pytest.mark.parametrize(
    ("kind", "name", "value", "text"),
    [
        ("mlp", "width", True, "a whole number of at least 1, received True"),
        ("mlp", "width", 16.0, "a whole number of at least 1, received 16.0"),
        ("mlp", "blocks", None, "a whole number of at least 1, received None"),
        ("mlp", "num_classes", True, "a whole number of at least 1, received True"),
        ("mlp", "dropout", float("nan"), "a finite number from 0 to 1, received nan"),
        ("mlp", "item_shape", [1, 0, 8], "a whole number of at least 1, received 0"),
        ("unet2d", "widths", [8, 16.5], "a whole number of at least 1, received 16.5"),
        ("unet2d", "widths", [], r"a list of at least one value, received \[\]"),
        ("unet2d", "widths", "64", "a list of at least one value, received '64'"),
        ("unet2d", "attention", [0, 0, 1], "true or false, received 0"),
    ],
)
def test_options_of_the_wrong_kind_are_named(kind, name, value, text):
    with pytest.raises(InputError, match=f"^model {kind}: {name}: expected {text}"):
        models.build({"kind": kind, "item_shape": [1, 8, 8], name: value})


def test_numbers_of_numpy_become_plain_ones():
    config = models.build({"kind": "mlp", "item_shape": (1, np.int64(8)), "width": np.int32(16)}).memfast_config
    assert json.loads(json.dumps(config))["width"] == 16


def test_weights_from_a_diffusers_folder_give_its_outputs(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(1)
    theirs = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), layers_per_block=1,
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path / "unet")
    ours = models.from_diffusers(tmp_path).eval()
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 70])
    assert torch.equal(ours(x, t), theirs(x, t).sample)
    again = models.build(json.loads(json.dumps(ours.memfast_config)))
    assert again(x, t).shape == x.shape


def test_weights_from_a_safetensors_file_and_what_does_not_fit(tmp_path):
    config = {"kind": "mlp", "item_shape": [1, 6], "width": 8, "blocks": 1}
    torch.manual_seed(0)
    source, target = models.build(config), models.build(config)
    file = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), file)
    models.load_weights(target, file)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    with pytest.raises(CheckpointError, match=r"first.weight is \[8, 6\], the model's is \[8, 7\]"):
        models.load_weights(models.build({**config, "item_shape": [1, 7]}), file)
    with pytest.raises(CheckpointError, match=r"it lacks blocks.1"):
        models.load_weights(models.build({**config, "blocks": 2}), file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        models.load_weights(target, file)
    with pytest.raises(InputError, match="no such path"):
        models.load_weights(target, tmp_path / "nothing")
    with pytest.raises(InputError, match="expected a run's folder"):
        models.load_run(tmp_path)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "item_shape"),
    [
        ((28, 28), "uint8", "image", (1, 28, 28)),
        ((7, 5, 3), "uint8", "image", (3, 7, 5)),
        ((3, 3, 3), "uint8", "image", (3, 3, 3)),
        ((140,), "float32", "signal", (1, 140)),
        ((12, 1000), "float64", "signal", (12, 1000)),
        ((16, 16), "float32", "array", (1, 16, 16)),
        ((9, 8, 3), "float32", "array", (3, 9, 8)),
        ((4, 8, 8), "float32", "array", (4, 8, 8)),
    ],
    ids=str,
)
def test_items_to_the_network_and_back(shape, dtype, kind, item_shape):
    form = models.ItemFormat.of(shape, np.dtype(dtype))
    assert (form.kind, form.item_shape) == (kind, item_shape)
    assert models.ItemFormat.from_dict(json.loads(json.dumps(form.to_dict()))) == form
    generator = np.random.default_rng(0)
    items = generator.integers(0, 256, (5, *shape)) if dtype == "uint8" else generator.normal(size=(5, *shape))
    items = items.astype(dtype)
    values = form.to_network(torch.from_numpy(items))
    assert values.shape == (5, *item_shape)
    assert values.dtype == torch.float32
    back = form.to_data(values)
    assert back.dtype == items.dtype
    if dtype == "uint8":
        assert np.array_equal(back, items)
        assert values.min() >= -1
        assert values.max() <= 1
    else:
        np.testing.assert_allclose(back, items, rtol=1e-6)


def test_channels_go_where_they_belong():
    form = models.ItemFormat.of((2, 2, 3), np.dtype("uint8"))
    item = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    values = form.to_network(torch.from_numpy(item))
    assert values[0, 1, 1, 0] == pytest.approx(item[0, 1, 0, 1] / 127.5 - 1)


def test_values_outside_the_range_are_clipped_not_wrapped():
    form = models.ItemFormat.of((2,) * 2, np.dtype("uint8"))
    assert form.to_data(torch.tensor([[[[-1.2, 1.2], [0.0, 1.0]]]])).tolist() == [[[0, 255], [128, 255]]]


def test_data_no_network_takes_are_refused():
    with pytest.raises(InputError, match="training data: expected uint8 items"):
        models.ItemFormat.of((5,), np.dtype("uint8"))
