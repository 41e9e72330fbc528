import pickle
import struct
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from memfast.features import Preprocessing, open_extractor
from memfast.foundation.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 5, 3)

    def forward(self, images):
        return self.layer(images).mean(dim=(2, 3))


@pytest.fixture
def network():
    return Network().eval()


@pytest.fixture
def expected(network):
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    return network(images).detach().numpy()


def test_a_module(network, expected):
    np.testing.assert_allclose(open_extractor(network, device="cpu")(PIXELS), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_file(network, expected, tmp_path):
    path = tmp_path / "network.pt"
    torch.jit.save(torch.jit.trace(network, torch.rand(4, 3, 12, 12)), str(path))
    np.testing.assert_allclose(open_extractor(path, device="cpu")(PIXELS), expected, atol=1e-6)


def test_an_exported_file(network, expected, tmp_path):
    path = tmp_path / "network.pt2"
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (torch.rand(4, 3, 12, 12),), dynamic_shapes={"images": {0: batch}})
    torch.export.save(program, path)
    np.testing.assert_allclose(open_extractor(path, device="cpu")(PIXELS), expected, atol=1e-6)


def test_an_onnx_file(tmp_path):
    """The smallest ONNX file there is, written by hand: y = Flatten(x)."""
    path = tmp_path / "flatten.onnx"
    path.write_bytes(flatten_model())
    found = open_extractor(path, device="cpu")(PIXELS)
    expected = PIXELS.transpose(0, 3, 1, 2).reshape(4, -1) / 255
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_two_files_have_two_identities(tmp_path, network):
    path = tmp_path / "flatten.onnx"
    path.write_bytes(flatten_model())
    first, second = open_extractor(path).describe(), open_extractor(network).describe()
    assert first["identity"]["kind"] == "onnx"
    assert len(first["identity"]["sha256"]) == 64
    assert first != second
    with torch.no_grad():
        network.layer.bias += 1
    assert open_extractor(network).describe() != second


class Bomb:
    def __reduce__(self):
        import os

        return os.mkdir, ("pickle-was-run",)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_pickles_are_refused_and_never_run(suffix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"bomb{suffix}"
    torch.save({"weights": torch.ones(2), "bomb": Bomb()}, path)
    with pytest.raises(InputError, match="bomb"):
        open_extractor(path)
    assert not (tmp_path / "pickle-was-run").exists()


def test_a_pickle_inside_an_exported_file_is_not_run(network, tmp_path, monkeypatch):
    """An archive whose sample inputs were replaced by a pickle that runs code."""
    import io
    import zipfile

    monkeypatch.chdir(tmp_path)
    whole, poisoned = tmp_path / "whole.pt2", tmp_path / "poisoned.pt2"
    torch.export.save(torch.export.export(network, (torch.rand(4, 3, 12, 12),)), whole)
    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)
    replaced = 0
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(poisoned, "w") as target:
        for name in source.namelist():
            inputs = "sample_inputs" in name or "example_inputs" in name
            replaced += inputs
            target.writestr(name, buffer.getvalue() if inputs else source.read(name))
    assert replaced
    with pytest.raises(InputError, match="without pickled objects"):
        open_extractor(poisoned)
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ("missing.onnx", "expected an existing model file"),
        ("resnet50", "efficientnet-lite0, hf, timm, open_clip, received 'resnet50'"),
        (3, "expected a torch module, a model file, a name or an Extractor, received int"),
        ("hf:nobody/nothing", "weights already on this machine"),
    ],
)
def test_what_cannot_be_opened(features, text, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=text):
        open_extractor(features)


def tiny_vit(folder, **changes):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "image_size": 12, "patch_size": 6}
    config = ViTConfig(num_hidden_layers=1, num_attention_heads=2, **sizes, **changes)
    ViTModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_hugging_face_folder(tmp_path):
    """The same weights under another configuration are another network."""
    gelu, relu = (tiny_vit(tmp_path / act, hidden_act=act) for act in ("gelu", "relu"))
    found = open_extractor(f"hf:{gelu}", preprocessing=Preprocessing(), device="cpu")
    other = open_extractor(f"hf:{relu}", preprocessing=Preprocessing(), device="cpu")
    assert found(PIXELS).shape == (4, 8)
    assert found.repeatable
    assert not np.array_equal(found(PIXELS), other(PIXELS))
    identities = [one.describe()["identity"] for one in (found, other)]
    assert identities[0]["weights"] == identities[1]["weights"]
    assert identities[0]["settings"] != identities[1]["settings"]
    np.testing.assert_array_equal(
        open_extractor(f"hf:{gelu}", preprocessing=Preprocessing(), device="cpu")(PIXELS), found(PIXELS)
    )


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    """Classifiers are saved without the pooler that the features come from; it would be drawn at random."""
    from safetensors.torch import load_file, save_file

    file = tiny_vit(tmp_path / "vit") / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if "pooler" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"holds every weight of the network, received none for 2 .* pooler\.dense\.bias"
    ):
        open_extractor(f"hf:{file.parent}", preprocessing=Preprocessing(), device="cpu")


def test_a_timm_file_of_another_network_is_refused(network, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from safetensors.torch import save_file

    settings = {"input_size": (3, 12, 12), "interpolation": "bicubic", "crop_pct": 1.0, "mean": (0,), "std": (1,)}
    timm = SimpleNamespace(
        create_model=lambda name, **options: network,
        data=SimpleNamespace(resolve_model_data_config=lambda one: settings),
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    save_file({**network.state_dict(), "head.weight": torch.ones(2)}, tmp_path / "right.safetensors")
    assert open_extractor(f"timm:{tmp_path / 'right.safetensors'}", device="cpu")(PIXELS).shape == (4, 5)
    save_file(
        {f"model.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "other.safetensors"
    )
    with pytest.raises(InputError, match=r"received none for 2 of them, such as layer\.bias"):
        open_extractor(f"timm:{tmp_path / 'other.safetensors'}", device="cpu")


def test_what_a_network_may_return():
    class Broken(torch.nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output = output

        def forward(self, images):
            return self.output(images)

    with pytest.raises(InputError, match=r"one row per item, shape \[4, D\], received shape \[2, 6\]"):
        open_extractor(Broken(lambda images: torch.zeros(2, 6)))(PIXELS)
    with pytest.raises(InputError, match="a network that returns a tensor, received str"):
        open_extractor(Broken(lambda images: "features"))(PIXELS)
    growing = open_extractor(Broken(lambda images: torch.zeros(len(images), len(images))))
    growing(PIXELS)
    with pytest.raises(InputError, match="4 features, as in the first batch, received 3"):
        growing(PIXELS[:3])


def test_half_precision_is_part_of_the_identity(network):
    half, full = (open_extractor(network, dtype=dtype, device="cpu") for dtype in ("bfloat16", "float32"))
    assert half.describe() != full.describe()
    assert open_extractor(Network(), dtype="bfloat16", device="cpu")(PIXELS).dtype == np.float32
    with pytest.raises(InputError, match="dtype"):
        open_extractor(network, dtype="int8")


@pytest.mark.parametrize(
    "options", [{"preprocessing": Preprocessing(mean=(0.5,))}, {"dtype": "float16"}, {"device": "cpu"}]
)
def test_options_beside_an_extractor_are_not_ignored(network, options):
    extractor = open_extractor(network, device="cpu")
    assert open_extractor(extractor) is extractor
    with pytest.raises(
        InputError, match=f"none beside an Extractor, which has its own, received {next(iter(options))}"
    ):
        open_extractor(extractor, **options)


def test_signals_need_no_image_preprocessing():
    extractor = open_extractor(torch.nn.Flatten(), preprocessing=Preprocessing(images=False))
    assert extractor(np.ones((2, 7, 3))).shape == (2, 21)


def flatten_model() -> bytes:
    """A protobuf encoding of an ONNX ModelProto: x [b, 3, 12, 12] -> Flatten -> y [b, 432]."""

    def number(value):
        out = b""
        while value > 127:
            out, value = out + struct.pack("B", value & 127 | 128), value >> 7
        return out + struct.pack("B", value)

    def field(tag, payload):
        if isinstance(payload, int):
            return number(tag << 3) + number(payload)
        payload = payload.encode() if isinstance(payload, str) else payload
        return number(tag << 3 | 2) + number(len(payload)) + payload

    def tensor(name, sizes):
        shape = b"".join(field(1, field(2, s) if isinstance(s, str) else field(1, s)) for s in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, "x") + field(2, "y") + field(4, "Flatten")
    graph = (
        field(1, node) + field(2, "g") + field(11, tensor("x", ["b", 3, 12, 12])) + field(12, tensor("y", ["b", 432]))
    )
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def test_threads_leave_no_warning_filter_and_other_threads_keep_pickle(network, tmp_path):
    path = tmp_path / "network.pt2"
    batch = {"images": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 12, 12),), dynamic_shapes=batch), path)
    torch.jit.trace(network, torch.zeros(1, 3, 12, 12)).save(tmp_path / "network.pt")
    filters, functions = list(warnings.filters), (torch.load, pickle.loads, pickle.load, pickle.Unpickler)
    with ThreadPoolExecutor(8) as pool:
        opened = [pool.submit(open_extractor, str(tmp_path / name)) for name in ("network.pt2", "network.pt") * 4]
        kept = [pool.submit(pickle.loads, pickle.dumps({"a": 1})) for _ in range(200)]
        assert all(one.result() == {"a": 1} for one in kept)
        found = [one.result()(PIXELS) for one in opened]
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], rtol=1e-5)
    assert warnings.filters == filters
    assert (torch.load, pickle.loads, pickle.load, pickle.Unpickler) == functions
