"""Text from others made harmless: what would move the cursor, hide or reorder words is shown, not obeyed."""

from __future__ import annotations

import re

#: Control characters but tab and line feed, and those that change the direction of writing (what is approved must
#: read as it runs).
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def safe(text: object) -> str:
    """The text with each unseen character as `<U+1B>`."""
    return _UNSEEN.sub(lambda found: f"<U+{ord(found.group()):02X}>", str(text))
