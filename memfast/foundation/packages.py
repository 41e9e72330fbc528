"""Optional packages: imported where they are needed, with one error where one is missing, another where one fails."""

import importlib
from types import ModuleType

from memfast.foundation.errors import MissingPackageError, PackageImportError, first_line


def optional_package(module: str, *, package: str | None = None, purpose: str, extra: str) -> ModuleType:
    """Import ``module`` of an optional package.

    Args:
        module: the name to import, for example ``"ot"``.
        package: the name that ``pip`` knows, where it differs.
        purpose: what memfast wants it for.
        extra: the extra of memfast that brings it.

    Raises:
        MissingPackageError: the package is not installed.
        PackageImportError: it is installed, but its own import fails, for example because it needs another package.
    """
    package = package or module
    try:
        return importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            raise MissingPackageError(package, purpose=purpose, extra=extra) from error
        raise PackageImportError(
            f"{purpose} needs the package {package}, which is installed but cannot be imported "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
