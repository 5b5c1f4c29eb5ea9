"""Every shipped recipe is read, survives being written back, and fits the models it names."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from raison.config import GrpoStage, dump, load_recipe, parse_recipe
from raison.model.cost import training_flops

FOLDER = Path(__file__).resolve().parent.parent / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))


def test_the_folder_is_found() -> None:
    assert {"quick", "countdown"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem, "the run's folder should say which recipe made it"
    assert parse_recipe(tomllib.loads(dump(recipe))) == recipe
    for stage in recipe.stages:
        spec = recipe.spec_of(stage)
        if spec is None:  # a model that exists, which need not be installed here
            continue
        assert training_flops(spec, 256) > 0
        if isinstance(stage, GrpoStage):
            assert stage.budget < spec.max_position_embeddings
    if not isinstance(recipe.model, str):
        assert max(recipe.evaluation.budgets) < recipe.model.max_position_embeddings
    assert recipe.evaluation.level in recipe.task.levels
