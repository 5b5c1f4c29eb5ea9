"""The tokenizer of a Hugging Face folder: vocabulary, special tokens, the tokens that end an answer, chat template.

A folder whose template is our own, or that has none but knows every token of our format, speaks our format; all others
speak their template's. Not covered: vocabularies that exist as a SentencePiece model only (`tokenizer.model`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raison.errors import CheckpointError, UserError
from raison.text.chat import is_ours
from raison.text.template import ChatTemplate
from raison.text.tokenizer import Tokenizer, load_backend

VOCABULARY, TOKENIZER_CONFIG, CHAT = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
GENERATION = "generation_config.json"


def load_tokenizer(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in `folder`; `config` is its config.json. Raises CheckpointError that names the file at fault."""
    if not (folder / VOCABULARY).is_file() and (folder / "tokenizer.model").is_file():
        raise CheckpointError(f"{folder} has its vocabulary as tokenizer.model only; save it as {VOCABULARY} first")
    backend = load_backend(folder / VOCABULARY)
    about = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    source = _template(folder, about)
    if is_ours(backend, source):
        return Tokenizer.of(backend)
    bos, eos = (_token(about, name) for name in ("bos_token", "eos_token"))
    try:
        template = None if source is None else ChatTemplate(source, bos or "", eos or "")
        first = None if bos is None else backend.token_to_id(bos)
        return Tokenizer.foreign(backend, template, first, _stops(folder, config, backend.token_to_id(eos or "")))
    except UserError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CheckpointError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def _template(folder: Path, about: Mapping[str, Any]) -> str | None:
    """A file of its own before the entry in tokenizer_config.json; of several named templates the default."""
    if (folder / CHAT).is_file():
        try:
            return (folder / CHAT).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{folder / CHAT} cannot be read: {error}") from error
    found = about.get("chat_template")
    if isinstance(found, list):
        named = [entry for entry in found if isinstance(entry, dict) and entry.get("name") == "default"]
        found = named[0].get("template") if named else None
    if not isinstance(found, str | None):
        raise CheckpointError(f"{folder / TOKENIZER_CONFIG} has no text as `chat_template`")
    return found


def _token(about: Mapping[str, Any], name: str) -> str | None:
    """A special token's text, which may be wrapped in an object."""
    value = about.get(name)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _stops(folder: Path, config: Mapping[str, Any], eos: int | None) -> list[int]:
    """The tokenizer's end of sentence first, then what generation_config.json and config.json name."""
    generation = read_json(folder / GENERATION) if (folder / GENERATION).is_file() else {}
    stops = [] if eos is None else [eos]
    for where in (generation, config):
        value = where.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(i) is int for i in ids):
            raise CheckpointError(f"{folder} has {value!r:.60} as `eos_token_id`; it must be a number or several")
        stops += ids
    return list(dict.fromkeys(stops))
