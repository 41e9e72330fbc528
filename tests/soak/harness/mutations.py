"""Changes to a file that reach behind its outermost check: to the tree of JSON, the headers of safetensors and npy."""

import json
import struct
from typing import Any

import numpy as np

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"..", b"/", b"\0", b"[" * 3000, b"9" * 400, b"nan", b"-1", b"1e999", b'"', b"{}", b"\xff\xfe", b"\\u0000",
    b",,", b"\r\n", b"\xed\xa0\x80", b"=1+1", b"\x1b[2J",
)  # fmt: skip
# What may stand in JSON where something else is expected.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 1e308, 10**40, 2**63, "", "x", "../../x", "\x00", "nan", [], {}, [[]], [None],
    {"": None}, [1, "a"], float("nan"), float("inf"),
)  # fmt: skip


def mutated(content: bytes, name: str, random: np.random.Generator) -> bytes:
    """The content with one to four changes; half of those to a file with a structure change the structure."""
    change = _STRUCTURES.get(name.rpartition(".")[2])
    for _ in range(int(random.integers(1, 5))):
        if change is not None and random.random() < 0.5:
            try:
                content = change(content, random)
                continue
            except (ValueError, KeyError, IndexError, RecursionError, struct.error, OverflowError):
                pass  # an earlier change broke the structure
        content = _bytes(content, random)
    return content


def _bytes(content: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(content)
    place = int(random.integers(0, max(1, len(changed))))
    kind = int(random.integers(0, 8))
    word = WORDS[int(random.integers(len(WORDS)))]
    if kind == 0 and changed:
        changed[place] ^= 1 << int(random.integers(0, 8))
    elif kind == 1:
        del changed[place:]
    elif kind == 2:
        del changed[place : place + int(random.integers(1, 40))]
    elif kind == 3:
        changed[place:place] = changed[place : place + int(random.integers(1, 200))]
    elif kind == 4:
        changed[place:place] = word
    elif kind == 5:
        changed[place : place + len(word)] = word
    elif kind == 6:
        width = int(random.choice([1, 2, 4, 8]))
        edge = EDGES[int(random.integers(len(EDGES)))] % 256**width
        changed[place : place + width] = edge.to_bytes(width, str(random.choice(["little", "big"])))
    else:
        other = int(random.integers(0, max(1, len(changed))))
        changed[place : place + 16], changed[other : other + 16] = (
            changed[other : other + 16],
            changed[place : place + 16],
        )
    return bytes(changed)


def _json(content: bytes, random: np.random.Generator) -> bytes:
    return json.dumps(_tree(json.loads(content), random), indent=2).encode("utf-8", "surrogatepass")


def _tree(value: Any, random: np.random.Generator) -> Any:
    """The tree with one value changed, removed, doubled or moved."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.1:
        return VALUES[int(random.integers(len(VALUES)))]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[int(random.integers(len(keys)))]
    kind = random.random()
    if kind < 0.15:
        del value[key]
    elif kind < 0.25:
        other = keys[int(random.integers(len(keys)))]
        value[key], value[other] = value[other], value[key]
    elif kind < 0.3 and isinstance(value, dict):
        value[f"{key}x"] = value[key]
    elif kind < 0.3:
        value.append(value[key])
    elif isinstance(value[key], (int, float)) and not isinstance(value[key], bool) and kind < 0.5:
        value[key] = value[key] + int(random.choice([-1, 1, 1000]))
    else:
        value[key] = _tree(value[key], random)
    return value


def _jsonl(content: bytes, random: np.random.Generator) -> bytes:
    lines = content.splitlines()
    place = int(random.integers(len(lines)))
    lines[place] = json.dumps(_tree(json.loads(lines[place]), random)).encode()
    return b"\n".join(lines) + b"\n"


def _safetensors(content: bytes, random: np.random.Generator) -> bytes:
    length = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(_tree(json.loads(content[8 : 8 + length]), random)).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _npy(content: bytes, random: np.random.Generator) -> bytes:
    """Another dtype or shape in the header, which keeps its length."""
    end = 10 + struct.unpack("<H", content[8:10])[0]
    header = content[10:end]
    old, new = [
        (b"'<f4'", b"'<f8'"), (b"'<f4'", b"'|O'"), (b"'|u1'", b"'|S9'"), (b"False", b"True "), (b"(", b"(-"),
        (b"(", b"(9999999999, "), (b"shape", b"shap2"), (b",)", b",) "), (b"(", b"(0, "),
    ][int(random.integers(9))]  # fmt: skip
    return content[:10] + header.replace(old, new).ljust(len(header))[: len(header)] + content[end:]


def _csv(content: bytes, random: np.random.Generator) -> bytes:
    lines = [line.split(b",") for line in content.split(b"\n")]
    line = lines[int(random.integers(len(lines)))]
    place = int(random.integers(len(line)))
    choice = int(random.integers(4))
    if choice == 0:
        del line[place]
    elif choice == 1:
        line.insert(place, line[place])
    else:
        line[place] = (
            WORDS[int(random.integers(len(WORDS)))] if choice == 2 else str(10 ** int(random.integers(40))).encode()
        )
    return b"\n".join(b",".join(cells) for cells in lines)


def _toml(content: bytes, random: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    place = int(random.integers(len(lines)))
    key, equals, _ = lines[place].partition(b"=")
    value = VALUES[int(random.integers(len(VALUES)))]
    lines[place] = key + equals + b" " + json.dumps(value).encode() if equals else b"[" + key.strip(b"[]") + b"x]"
    return b"\n".join(lines)


_STRUCTURES = {
    "json": _json, "jsonl": _jsonl, "safetensors": _safetensors, "npy": _npy, "csv": _csv, "toml": _toml,
}  # fmt: skip
