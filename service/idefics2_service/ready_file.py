"""The file that tells a program when the service is ready, and how to call it."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_service.errors import StartFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ReadyFile:
    """Whole or not there."""

    def __init__(self, path: str) -> None:
        """Be `path`; `begin` comes next."""
        self._path = Path(path)

    def begin(self) -> None:
        """Remove what an earlier start said, and find out now whether this one will be able to say anything.

        Raises:
            StartFailed: it will not.

        """
        self.remove()
        with self._naming_faults(), tempfile.NamedTemporaryFile(dir=self._path.parent):
            pass

    def write(self, facts: Mapping[str, str | None]) -> None:
        """Say that the service is ready; for its owner only, since there may be a key among `facts`.

        Raises:
            StartFailed: it cannot be written; nothing is left of it.

        """
        with (
            self._naming_faults(),
            tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file,
            _removing_at_faults(Path(file.name)) as temporary,
        ):
            json.dump(facts, file)
            file.flush()
            temporary.replace(self._path)

    def remove(self) -> None:
        """Say that nothing is ready.

        Raises:
            StartFailed: it stays.

        """
        with self._naming_faults():
            self._path.unlink(missing_ok=True)

    @contextmanager
    def _naming_faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StartFailed(f"--ready-file {self._path}: {error.strerror}") from error


@contextmanager
def _removing_at_faults(path: Path) -> Iterator[Path]:
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise
