"""The key that the service makes for itself, where nobody gave it any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2_service.errors import SettingInvalid
from idefics2_service.keys.credentials import Credentials
from idefics2_service.private_files import locked, replace

if TYPE_CHECKING:
    from pathlib import Path

OWN_ID = "local"


def load_or_make_key(folder: Path) -> str:
    """Return the key kept in `folder`, made there at the first start and readable by its owner only.

    Raises:
        SettingInvalid: the folder cannot be written.

    """
    path = folder / "api_key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if not path.exists() or not path.stat().st_size:
                replace(path, Credentials.make(OWN_ID).text.encode() + b"\n")
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"IDEFICS2_DATA_FOLDER: cannot keep the API key in {path}: {error}"
        raise SettingInvalid(message) from error
