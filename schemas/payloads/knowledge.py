"""Between a person and the agent that keeps the knowledge."""

from __future__ import annotations

from pydantic import Field

from schemas.payloads.base import Payload


class AddDocument(Payload):
    """Add this to what questions are answered from, once it was approved. The answer is Answered, Refused or Failed.

    `text`: Markdown with front matter, exactly as it is to be kept.
    """

    name: str = Field(min_length=1, max_length=100)
    text: str = Field(min_length=1, max_length=200_000)
