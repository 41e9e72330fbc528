"""The errors of memfast: each says what was expected, what came and what to do."""


class MemfastError(Exception):
    """Base of every error that memfast raises on purpose. The command line prints its text and exits with 1."""


class InputError(MemfastError, ValueError):
    """An argument or a piece of data that memfast cannot use.

    Args:
        what: the argument or item concerned, for example ``"sample_ids"`` or a file's name.
        expected: what would have been right.
        received: what came.
        do: what the caller can do about it.
    """

    def __init__(self, what: str, *, expected: str, received: str, do: str = "") -> None:
        self.what, self.expected, self.received, self.do = what, expected, received, do
        super().__init__(f"{what}: expected {expected}, received {received}." + (f" {do}" if do else ""))

    def __reduce__(self) -> tuple:
        return _rebuild_input_error, (type(self), self.what, self.expected, self.received, self.do)


class BackendUnavailableError(MemfastError, RuntimeError):
    """A backend was asked for by name and cannot run here; the text holds its probe's reason."""


class CheckpointError(MemfastError, RuntimeError):
    """A checkpoint that is damaged, incomplete or of another run; the text names the field that differs."""


class OutputError(MemfastError, OSError):
    """Results could not be written, or the folder already holds some; what was on disk is untouched."""


class MissingPackageError(MemfastError, ImportError):
    """An optional package is not installed.

    Args:
        package: its name, as ``pip`` spells it.
        purpose: what memfast wanted it for.
        extra: the extra of memfast that brings it, for example ``"audit"``.
    """

    def __init__(self, package: str, *, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'memfast[{extra}]'")


class PackageImportError(MemfastError, ImportError):
    """An optional package is installed, but importing it fails; the text holds its own error."""


def first_line(error: BaseException) -> str:
    """An error's cause alone: some libraries add a page of advice, some say nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _rebuild_input_error(cls: type[InputError], what: str, expected: str, received: str, do: str) -> InputError:
    return cls(what, expected=expected, received=received, do=do)
