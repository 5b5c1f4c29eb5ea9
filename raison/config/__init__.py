"""A recipe (TOML) as frozen dataclasses: `load_recipe` reads, `dump` writes it resolved, with every default in place.

table.py is the strict parser, which knows no recipe; sections.py, stages.py and recipe.py are what a recipe may say. An
unknown key, a wrong type or a value out of range is a UserError of one line. Imports no torch.
"""

from raison.config.recipe import Recipe, dump, load_recipe, parse_recipe
from raison.config.sections import (
    BillSection,
    EndpointSection,
    EvaluationSection,
    LoraSection,
    OptimizerSection,
    Precision,
    Share,
    TaskSection,
    TeacherSection,
    TrainSection,
)
from raison.config.stages import (
    BASE,
    CONTROL,
    DistillStage,
    GrpoStage,
    PretrainStage,
    RejectStage,
    SftStage,
    Stage,
    StageBase,
)
from raison.config.table import parse, to_table

__all__ = [
    "BASE",
    "CONTROL",
    "BillSection",
    "DistillStage",
    "EndpointSection",
    "EvaluationSection",
    "GrpoStage",
    "LoraSection",
    "OptimizerSection",
    "Precision",
    "PretrainStage",
    "Recipe",
    "RejectStage",
    "SftStage",
    "Share",
    "Stage",
    "StageBase",
    "TaskSection",
    "TeacherSection",
    "TrainSection",
    "dump",
    "load_recipe",
    "parse",
    "parse_recipe",
    "to_table",
]
