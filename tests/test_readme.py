"""The README's Python runs as it stands, given the model, data and folders that it assumes."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), flags=re.DOTALL)


def named(start):
    (block,) = [block for block in BLOCKS if block.startswith(start)]
    return block


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x_t, timesteps):
        assert timesteps.dtype == torch.int64
        return self.layer(x_t)


def test_the_training_loop():
    torch.manual_seed(0)
    model = Network()
    before = model.layer.weight.detach().clone()
    names = {
        "device": "cpu",
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loader": [(torch.randn(4, 1, 8, 8), torch.arange(4) + 4 * step) for step in range(3)],
    }
    exec(named("import memfast\n"), names)
    assert names["loss"].isfinite()
    assert names["step"] == 2
    assert not torch.equal(model.layer.weight, before)


def test_the_audit(tmp_path, monkeypatch, capsys):
    import memfast

    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8)
    for folder, part in (("train", images[:60]), ("held_out", images[60:]), ("samples", images[50:70])):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(part):
            Image.fromarray(image).save(tmp_path / folder / f"{number:02d}.png")
    exec(named("result = memfast.audit("), {"memfast": memfast})
    assert "10 of 20" in capsys.readouterr().out
    assert {"result.json", "pairs.csv", "report.html"} <= {path.name for path in (tmp_path / "audit").iterdir()}


def test_the_claims_quote_the_evidence():
    root = Path(__file__).parents[1]
    evidence = (root / "docs" / "evidence.md").read_text().split("## In five lines")[1].split("## Verdicts")[0]
    claims = (root / "README.md").read_text().split("## What the papers' claims came to")[1].split("## More")[0]
    known = set(re.findall(r"[-+]?\d+(?:\.\d+)?", evidence))
    quoted = re.findall(r"[-+]?\d+(?:\.\d+)?", re.sub(r"^\d\. |ECG5000", "", claims, flags=re.MULTILINE))
    assert quoted
    assert not [number for number in quoted if number not in known]
