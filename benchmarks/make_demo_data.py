"""Makes the demo data that the package ships: 2,000 Fashion-MNIST images, 200 a class, as one sheet of pixels.

python benchmarks/make_demo_data.py ../shared/data/fashion_mnist.npz memfast/data/demo
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

PER_CLASS, COLUMNS, SIDE = 200, 50, 28


def main(source: str, folder: str) -> None:
    with np.load(source, allow_pickle=False) as file:
        images, labels = file["x_train"], file["y_train"]
    # The first of each class, interleaved so that every prefix of the sheet is balanced.
    chosen = np.stack([np.flatnonzero(labels == label)[:PER_CLASS] for label in range(10)], axis=1).ravel()
    rows = len(chosen) // COLUMNS
    tiles = images[chosen].reshape(rows, COLUMNS, SIDE, SIDE)
    Image.fromarray(tiles.transpose(0, 2, 1, 3).reshape(rows * SIDE, COLUMNS * SIDE)).save(
        Path(folder) / "fashion_mnist_2000.png", optimize=True
    )
    facts = {"side": SIDE, "columns": COLUMNS, "labels": labels[chosen].tolist(), "rows_of_x_train": chosen.tolist()}
    Path(folder, "fashion_mnist_2000.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
