"""GUIDs, as drivers and applications write them: ``{781EF630-72B2-11D2-B852-00C04FAD5171}``."""

from __future__ import annotations

import re

_GUID = re.compile(r"\{[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}\}")


def normal_guid(guid: object) -> str | None:
    """A GUID in braces and capitals, or None if it is none."""
    written = guid.upper() if isinstance(guid, str) else ""
    return written if _GUID.fullmatch(written) else None
