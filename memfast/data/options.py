"""How data is to be read: checked once, then handed to every format."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memfast.data.not_read import PassedOver
from memfast.data.splits import canonical, choose_split, split_of
from memfast.foundation.arguments import finite_number, whole_number
from memfast.foundation.errors import InputError

MODES = ("auto", "L", "RGB")
SCALES = ("standard", "minmax", "rank")
FILES_HOLD = ("one item", "many items")


@dataclass(frozen=True)
class ReadingOptions:
    """What a caller asks of a reader; the arguments of :func:`memfast.data.open_source`.

    Attributes:
        parts: the names behind ``PATH::``, which a format takes one by one.
        reopen: opens data that a format only points to, as ``open_source`` does.
    """

    skip_bad: bool = False
    mode: str = "auto"
    image_size: int | None = None
    split: str | None = None
    column: str | None = None
    label_column: str | int | None = None
    scale: str | None = None
    like: Any = None
    files_hold: str | None = None
    value_range: tuple[float, float] | None = None
    parts: tuple[str, ...] = ()
    progress: bool = False
    reopen: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError("mode", expected="'auto', 'L' or 'RGB'", received=repr(self.mode))
        if self.image_size is not None:
            size = whole_number("image_size", self.image_size, least=1, words="a side of at least 1 pixel")
            object.__setattr__(self, "image_size", size)
        if self.scale is not None and self.scale not in SCALES:
            raise InputError("scale", expected="'standard', 'minmax' or 'rank'", received=repr(self.scale))
        if self.files_hold is not None and self.files_hold not in FILES_HOLD:
            raise InputError("files_hold", expected="'one item' or 'many items'", received=repr(self.files_hold))
        if self.value_range is not None:
            object.__setattr__(self, "value_range", _checked_range(self.value_range))

    @property
    def converts_images(self) -> bool:
        """Whether a mode or size was asked for."""
        return self.mode != "auto" or self.image_size is not None

    def choose_split(
        self, what: str, names: Sequence[str], passed: PassedOver, *, folders_only: bool = False
    ) -> "tuple[list[str], str, ReadingOptions]":
        """The files of the split that was asked for, what to call them, and what else was asked.

        Raises:
            InputError: several splits and none chosen, or no such split.
        """
        splits = {split_of(name, folders_only=folders_only) for name in names}
        wanted, rest = self.split, self
        if wanted is None and self.parts and canonical(self.parts[0]) in splits:
            wanted, rest = self.parts[0], replace(self, parts=self.parts[1:])
        chosen, split = choose_split(what, names, wanted, passed, folders_only=folders_only)
        return chosen, what if split is None else f"{what}[{split}]", replace(rest, split=None)

    def take_column(self) -> "ReadingOptions":
        """These options with the next part, if there is one, moved to ``column``."""
        if self.column is None and self.parts:
            return replace(self, column=self.parts[0], parts=self.parts[1:])
        return self

    def refuse_split(self, what: str) -> None:
        """Raise where a split was asked for and the data have none."""
        if self.split is not None:
            raise InputError(what, expected=f"the split {self.split!r}", received="data without splits")

    def refuse_parts(self, what: str, expected: str = "::NAME only after files of arrays or tables") -> None:
        """Raise where a split, a column or a name behind ``PATH::`` was asked for that these data do not have."""
        self.refuse_split(what)
        if self.parts:
            raise InputError(f"{what}::{'::'.join(self.parts)}", expected=expected, received=f"::{self.parts[0]}")
        if self.column is not None:
            raise InputError(
                f"{what}: column", expected="none, for data without named arrays or columns", received=repr(self.column)
            )

    def refuse_label_column(self, what: str) -> None:
        """Raise where a column of labels was asked for and there are no columns."""
        if self.label_column is not None:
            raise InputError(
                f"{what}: label_column", expected="none, for data without named arrays or columns",
                received=repr(self.label_column),
            )  # fmt: skip


def _checked_range(given: Any) -> tuple[float, float]:
    wrong = InputError("value_range", expected="(low, high) with low < high", received=repr(given))
    try:
        low, high = given
    except (TypeError, ValueError) as error:
        raise wrong from error
    low, high = finite_number("value_range", low), finite_number("value_range", high)
    if low >= high:
        raise wrong
    return low, high
