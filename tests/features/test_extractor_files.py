import struct

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
