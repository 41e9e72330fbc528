"""No cell of a table can be taken for a formula, wherever a spreadsheet begins a cell; and every text comes back."""

import re

from hypothesis import given
from hypothesis import strategies as st

from memfast.foundation.spreadsheet import guarded, unguarded

TEXT = st.text(alphabet="ab;=+-@'\t\r\n| ,\uff1d\uff20", max_size=12)


@given(TEXT)
def test_guarded_text_comes_back(text):
    assert unguarded(guarded(text)) == text


@given(TEXT)
def test_no_cell_begins_like_a_formula(text):
    for cell in re.split(r"[;\t\r\n|]", guarded(text)):
        assert not cell.startswith(("=", "+", "-", "@", "\uff1d", "\uff20"))
