"""The table of pairs: names of any kind survive the file, and none is a formula there."""

import csv

import pytest

from memfast.auditing.result import PairTable

NAMES = [
    "=cmd|' /C calc'!A0.png",
    "+1.png",
    "-1.png",
    "@SUM(A1).png",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "'=1",
    "'quoted'",
    "plain.png",
    'a,b"c.png',
    "two\nlines",
    "carriage\rreturn",
    "both\r\nends",
    "",
    " =1",
    "\u65e5\u672c.png",
]


@pytest.fixture
def pairs():
    count = len(NAMES)
    return PairTable(
        {
            "generated": list(range(count)),
            "training": list(range(count)),
            "generated_name": NAMES,
            "training_name": NAMES[::-1],
            "distance": [0.25] * count,
            "ratio": [None] * count,
            "criteria": ["nn_ratio"] * count,
            "score_similarity": [-0.5] * count,
        }
    )


def test_names_of_any_kind_come_back_from_the_file(pairs, tmp_path):
    pairs.write_csv(tmp_path / "pairs.csv")
    assert PairTable.read_csv(tmp_path / "pairs.csv") == pairs


def test_no_text_in_the_file_begins_like_a_formula(pairs, tmp_path):
    pairs.write_csv(tmp_path / "pairs.csv")
    with open(tmp_path / "pairs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [row[name] for row in rows for name in ("generated_name", "training_name")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))]
    assert rows[NAMES.index("plain.png")]["generated_name"] == "plain.png"
    assert {row["score_similarity"] for row in rows} == {"-0.5"}
