"""The hash that names a model in a result: every byte that decides what it says.

A GGUF file is its own SHA-256. Of a folder the weights, the shape, the vocabulary and the chat template count, by
name; provenance and what people laid beside them do not, so that a note does not make another model of it.
Not covered: models behind an endpoint, of which nobody but its owner knows more than a name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from raison.errors import CheckpointError

DECISIVE = ("*.safetensors", "config.json", "tokenizer.json", "chat_template.jinja")


def fingerprint(path: Path) -> str:
    """SHA-256 in hex. Raises CheckpointError where there is no model at `path`."""
    if path.is_file():
        return _digest(path)
    files = sorted(file for pattern in DECISIVE for file in path.glob(pattern))
    if not files:
        raise CheckpointError(f"{path} holds no model; give a model folder or a .gguf file")
    lines = "".join(f"{_digest(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
