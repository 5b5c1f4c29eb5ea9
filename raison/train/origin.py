"""Where a run's weights come from and where they are kept: random ones or a model's that exists, whole or as adapters.

    runs/<run>/stages/<stage>/model/      a stage's final weights; or, where the recipe has a `lora` section,
               stages/<stage>/adapter/    its adapters alone, in PEFT's format
               model/                     the final weights, adapters merged
               adapter/                   the final adapters

Adapters always belong to the model that the recipe names, not to the stage before, so that the last ones are all that
the run has learnt. Not covered: the tokenizer of models born here, which is built and not loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raison.config import DistillStage, Recipe, Stage
from raison.errors import UserError, nearest
from raison.model import lora
from raison.model.spec import PRESETS, ModelSpec
from raison.model.transformer import Transformer, initialise
from raison.text.tokenizer import Tokenizer
from raison.weights import folder as model_folder
from raison.weights import peft, place, source
from raison.weights.export import rotate_halves_of
from raison.weights.opened import LoadedModel

MODEL, ADAPTER = "model", "adapter"


class Origin:
    """`tokenizer` and `spec` are those of the recipe's model; `base` is its provenance, empty for random weights."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Raises UserError when the recipe names a model that cannot be loaded, or too small a vocabulary."""
        self._recipe, self._folder = recipe, folder
        self.base: dict[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        """What was left out when the model was loaded."""
        if isinstance(recipe.model, ModelSpec):
            self.tokenizer, self.spec = Tokenizer.build(), recipe.model
        else:
            loaded = self._load()
            self.tokenizer, self.spec = loaded.tokenizer, loaded.model.spec
            self.base, self.notes = {"model": recipe.model, **loaded.provenance}, loaded.notes
        self._check(self.spec)

    def fresh(self, spec: ModelSpec, stage: Stage | None = None) -> Transformer:
        """What a stage of this shape starts from that follows no other: adapters, where there are any, at rest."""
        own = not isinstance(stage, DistillStage) or stage.student is None
        if not self.base or not own or spec != self.spec:
            self._check(spec)
            return initialise(Transformer(spec), self._recipe.seed)
        model, settings = self._load().model, self._recipe.lora
        if settings is not None:
            lora.attach(model, settings.rank, settings.alpha, settings.targets, self._recipe.seed)
        return model

    def of_stage(self, stage: Stage) -> Transformer:
        """The model as the stage left it, with its adapters on it."""
        place = self._place(stage.name)
        if self._recipe.lora is None:
            return model_folder.load(place / MODEL).model
        model = self._load().model
        peft.load(place / ADAPTER, model)
        return model

    def keep(self, stage: Stage, model: Transformer, provenance: dict[str, Any]) -> None:
        """Save what the stage has made."""
        place = self._place(stage.name)
        if self._recipe.lora is None:
            model_folder.save(place / MODEL, model, self.tokenizer, provenance)
        else:
            peft.save(place / ADAPTER, model, str(self._recipe.model))

    def final(self, stage: Stage) -> Transformer:
        """The final stage's model with its adapters saved beside it and merged."""
        model = self.of_stage(stage)
        if self._recipe.lora is not None:
            peft.save(self._folder / ADAPTER, model, str(self._recipe.model))
            lora.merge(model)
        return model

    def _check(self, spec: ModelSpec) -> None:
        have, needed = spec.vocab_size, self.tokenizer.size
        if have < needed:
            raise UserError(
                f"vocab_size is {have}, but the tokenizer has {needed} tokens; raise it to {needed} or more"
            )

    def _load(self) -> LoadedModel:
        """Every time anew: a model is trained in place. What all weights of are trained is never packed.

        Rows stand in the order of published checkpoints, so that the model and its adapters can be saved as such.
        """
        name = str(self._recipe.model)
        if not place.locate(name).exists():
            raise UserError(
                f'model is "{name}", and there is no such folder or file, nor a preset of that name: '
                f"{nearest(name, PRESETS)}"
            )
        loaded = source.load(name, packed=None if self._recipe.lora else False)
        rotate_halves_of(loaded.model)
        return loaded

    def _place(self, stage: str) -> Path:
        return self._folder / "stages" / stage
