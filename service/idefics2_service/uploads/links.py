"""Public links: the path by which anybody who knows it may read a file, without a key.

The id in it is the capability: 128 random bits that only the file's owner was told, and whom the owner told.
So a link may be read back whatever host it names: a file is taken from the library only if it is there, under
this very key and id, and its bytes are then what a GET of the link would give to anybody. The host is not
asked, and learns nothing. A link that leads to no file of ours is a URL like any other.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

_PATH = re.compile(r"(?:/.*)?/files/(?P<key_id>[A-Za-z0-9_-]{1,64})/(?P<id>[0-9a-f]{32})(?:/[^/]*)?")
_BEGINNING = re.compile(r"https?://", re.IGNORECASE)
MAX_LINK_BYTES = 2048
"""As many as a URL may have that is fetched; a file's path has less than half, whatever its name."""
_SWALLOWED = (".", "..")
"""What no path may end in: clients would take the segment before it away, too."""


def make_public_path(key_id: str, file_id: str, name: str) -> str:
    """Return the path, behind our URL and a slash, that a file of this id and name has, or will have.

    Of a name with slashes, the last part stands there: servers read an escaped slash as a plain one.
    """
    path, last = f"files/{key_id}/{file_id}", name.rpartition("/")[2]
    return path if not last or last in _SWALLOWED else f"{path}/{quote(last, safe='')}"


def read_public_path(url: str) -> tuple[str, str] | None:
    """Return key and id of the file that an http(s) URL may lead to; None: it is no public link."""
    # Looked at first: urlsplit remembers what it is given, and a data URI is a whole picture.
    if len(url) > MAX_LINK_BYTES or not _BEGINNING.match(url):
        return None
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    match = _PATH.fullmatch(path)
    return (match["key_id"], match["id"]) if match else None
