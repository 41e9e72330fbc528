"""Structure-aware fuzzing of every reader: what comes out is a source or an error of ours, never a crash or a hang.

``python tests/data/fuzzing.py 5000 --seed 1`` runs so many cases in processes of their own, under limits.
"""

import argparse
import io
import json
import os
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import traceback
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

MEMORY, SECONDS, CASES_OF_A_PROCESS = 4 << 30, 20, 200
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"..",
    b"/",
    b"\0",
    b"[" * 3000,
    b"9" * 40,
    b"nan",
    b"-1",
    b"1e999",
    b'"',
    b"{}",
    b"\xff\xfe",
    b"\\u0000",
    b",,",
)


def corpus():
    """Name -> the content of a small valid file of each kind."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as parquet
    import torch
    from PIL import Image
    from safetensors.numpy import save

    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    found = {}
    for suffix, image in {
        "png": colour, "p.png": colour.convert("P"), "rgba.png": colour.convert("RGBA"), "jpg": colour, "bmp": colour,
        "gif": colour.convert("P"), "tif": colour, "cmyk.tif": colour.convert("CMYK"), "webp": colour, "ppm": colour,
        "tga": colour, "jp2": colour, "avif": colour, "qoi": colour, "pcx": colour, "sgi": colour,
        "deep.png": Image.fromarray(random.integers(0, 65536, (12, 10), dtype=np.uint16)),
    }.items():  # fmt: skip
        content = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(
            suffix.split(".")[-1], suffix.split(".")[-1].upper()
        )
        options = (
            {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}
            if kind in ("PNG", "JPEG")
            else {}
        )
        image.save(content, kind, **options)
        found[f"image.{suffix}"] = content.getvalue()
    values = random.integers(0, 256, (3, 4, 5), dtype=np.uint8)

    def saved(write):
        content = io.BytesIO()
        write(content)
        return content.getvalue()

    found["a.npy"] = saved(lambda file: np.save(file, values))
    found["a.npz"] = saved(
        lambda file: np.savez_compressed(file, images=values, labels=[1, 2, 3], names=["a", "b", "c"])
    )
    found["stored.npz"] = saved(lambda file: np.savez(file, arr_0=values, arr_1=[1, 2, 3]))
    found["a.safetensors"] = save({"x": values.astype(np.float32), "y": np.arange(3)})
    found["a.pt"] = saved(lambda file: torch.save({"x": torch.from_numpy(values), "y": torch.arange(3)}, file))
    found["plain.pt"] = saved(lambda file: torch.save(torch.zeros(3, 4), file, _use_new_zipfile_serialization=False))
    members = {
        "cat/1.png": found["image.png"],
        "cat/1.cls": b"3",
        "dog/2.png": found["image.png"],
        "dog/2.json": b'{"label": "x"}',
    }
    members["dataset.json"] = json.dumps({"labels": [["cat/1.png", 1], ["dog/2.png", 2]]}).encode()
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):

        def write_zip(file, compression=compression):
            with zipfile.ZipFile(file, "w", compression) as archive:
                for name, content in members.items():
                    archive.writestr(name, content)

        found[f"{compression}.zip"] = saved(write_zip)
    for mode in ("", "gz", "bz2", "xz"):

        def write_tar(file, mode=mode):
            with tarfile.open(fileobj=file, mode=f"w:{mode}") as archive:
                for name, content in members.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
                link = tarfile.TarInfo("dog/3.png")
                link.type, link.linkname = tarfile.SYMTYPE, "../cat/1.png"
                archive.addfile(link)

        found["a.tar" + (f".{mode}" if mode else "")] = saved(write_tar)
    rows = {"image": [{"bytes": found["image.png"], "path": None}] * 3, "label": ["a", "b", "a"], "id": [1, 2, 3]}
    plain = {"a": [1.5, 2.5, 3.5], "b": ["x", "y", "x"], "label": [1, 2, 3]}
    lists = {"values": [[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]], "label": [1, None, 3]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    named = datasets.Dataset.from_dict({"image": rows["image"], "label": [0, 1, 0]}, features=features).data.table
    for name, table in (
        ("rows", pa.table(rows)),
        ("plain", pa.table(plain)),
        ("lists", pa.table(lists)),
        ("named", named),
    ):
        found[f"{name}.parquet"] = saved(lambda file, table=table: parquet.write_table(table, file))

        def write_arrow(file, table=table):
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)

        found[f"{name}.arrow"] = saved(write_arrow)
    found["a.tsv"] = b"1\t0.5\t-1.5\n2\t2.5\t3.5\n"
    found["a.csv"] = b'id,age,city,label\nw,1.5,Oslo,1\nx,2.5,"Bonn, West",2\n'
    return found


def mutated(content, name, random):
    """The content with a few changes, checksums repaired where the format has them, mostly."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        place = int(random.integers(0, max(1, len(changed))))
        kind = int(random.integers(0, 9))
        if kind == 0 and changed:
            changed[min(place, len(changed) - 1)] ^= 1 << int(random.integers(0, 8))
        elif kind == 1 and changed:
            changed[min(place, len(changed) - 1)] = int(random.integers(0, 256))
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            del changed[place : place + int(random.integers(1, 40))]
        elif kind == 4:
            changed[place:place] = changed[place : place + int(random.integers(1, 200))]
        elif kind == 5:
            changed[place:place] = WORDS[int(random.integers(0, len(WORDS)))]
        elif kind == 6:
            width = int(random.choice([1, 2, 4, 8]))
            edge = EDGES[int(random.integers(0, len(EDGES)))] % 256**width
            changed[place : place + width] = edge.to_bytes(width, random.choice(["little", "big"]))
        elif kind == 7:
            word = WORDS[int(random.integers(0, len(WORDS)))]
            changed[place : place + len(word)] = word
        else:
            other = int(random.integers(0, max(1, len(changed))))
            changed[place : place + 16], changed[other : other + 16] = (
                changed[other : other + 16],
                changed[place : place + 16],
            )
    if random.random() < 0.7:
        changed = repaired(changed, name)
    return bytes(changed)


def repaired(content, name):
    """Checksums of PNG chunks and tar headers made right, so that what lies behind them is tried."""
    if name.endswith(".png") and content[:4] == b"\x89PNG":
        at = 8
        while at + 12 <= len(content):
            length = struct.unpack(">I", content[at : at + 4])[0]
            if at + 12 + length > len(content):
                break
            content[at + 8 + length : at + 12 + length] = struct.pack(
                ">I", zlib.crc32(content[at + 4 : at + 8 + length])
            )
            at += 12 + length
    if name.endswith(".tar"):
        for at in range(0, len(content) - 511, 512):
            if content[at + 257 : at + 262] == b"ustar":
                header = content[at : at + 148] + b" " * 8 + content[at + 156 : at + 512]
                content[at + 148 : at + 156] = b"%06o\0 " % sum(header)
    return content


def outcome(path, name, random):
    """Read a file in one of several ways; "read", "refused", or the traceback of an error that is not ours."""
    from memfast.data import open_source
    from memfast.foundation.errors import MemfastError

    options = {"skip_bad": bool(random.integers(0, 2))}
    if name.startswith("image.") and random.random() < 0.3:
        options["image_size"] = 6
    data = path if random.random() < 0.8 else path.parent
    if name.startswith("image.") and random.random() < 0.5:
        data = [path.read_bytes()]
    try:
        source = open_source(data, **options)
        source.block(0, min(len(source), 4)), source.item_name(0), source.content_hash(), source.not_read
        return "read"
    except MemfastError:
        return "refused"
    except Exception:
        return traceback.format_exc()


def run(first, last, seed, folder):
    """Cases ``first`` to ``last`` in this process; prints those that went wrong."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    files, counts = corpus(), {}
    names = sorted(files)
    for case in range(first, last):
        random = np.random.default_rng([seed, case])
        name = names[int(random.integers(0, len(names)))]
        place = Path(folder) / str(case)
        place.mkdir()
        path = place / name
        path.write_bytes(mutated(files[name], name, random))
        (Path(folder) / f"now-{first}").write_text(str(path))
        signal.alarm(SECONDS)
        found = outcome(path, name, random)
        signal.alarm(0)
        counts[found if found in ("read", "refused") else "WRONG"] = counts.get(found, 0) + 1
        if found not in ("read", "refused"):
            print(f"case {case} of seed {seed}, {name}:\n{found}", flush=True)
        else:
            path.unlink()
            place.rmdir()
    return counts


def main():
    """Run the cases in processes of their own, so that a crash or a hang is one failed case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", type=int)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder, failed = tempfile.mkdtemp(prefix="memfast-fuzz-"), 0
    for first in range(0, asked.cases, CASES_OF_A_PROCESS):
        child = os.fork()
        if child == 0:
            counts = run(first, min(first + CASES_OF_A_PROCESS, asked.cases), asked.seed, folder)
            print(counts, flush=True)
            os._exit("WRONG" in counts)
        _, status = os.waitpid(child, 0)
        if status:
            failed += 1
            if os.WIFSIGNALED(status):
                print(f"signal {os.WTERMSIG(status)} at {(Path(folder) / f'now-{first}').read_text()}", flush=True)
    print(f"{failed} processes with faults; their files are in {folder}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
