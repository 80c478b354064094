"""What a run will cost before it starts: parameters, memory, time, money, layouts, scaling laws, launch files."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cairn.planning.budget import LAWS, read_law, shape_of_size, twenty_tokens
    from cairn.planning.hardware import DEVICES, Device, find_device, match_device
    from cairn.planning.inference import ServingPlan, plan_serving
    from cairn.planning.layout import Layout
    from cairn.planning.memory import Memory, training_memory
    from cairn.planning.parameters import Flops, Parameters, count_flops, count_parameters
    from cairn.planning.plan import Choice, TrainingPlan, plan_training
    from cairn.planning.settings import Serving, Training
    from cairn.planning.shapes import PUBLISHED, read_shape

__all__ = [
    "DEVICES",
    "LAWS",
    "PUBLISHED",
    "Choice",
    "Device",
    "Flops",
    "Layout",
    "Memory",
    "Parameters",
    "Serving",
    "ServingPlan",
    "Training",
    "TrainingPlan",
    "count_flops",
    "count_parameters",
    "find_device",
    "match_device",
    "plan_serving",
    "plan_training",
    "read_law",
    "read_shape",
    "shape_of_size",
    "training_memory",
    "twenty_tokens",
]

# Imported on first use: `cairn plan --help` and `cairn launch` must not wait for torch.
_NAMES = {
    "budget": ("LAWS", "read_law", "shape_of_size", "twenty_tokens"),
    "hardware": ("DEVICES", "Device", "find_device", "match_device"),
    "inference": ("ServingPlan", "plan_serving"),
    "layout": ("Layout",),
    "memory": ("Memory", "training_memory"),
    "parameters": ("Flops", "Parameters", "count_flops", "count_parameters"),
    "plan": ("Choice", "TrainingPlan", "plan_training"),
    "settings": ("Serving", "Training"),
    "shapes": ("PUBLISHED", "read_shape"),
}
_HOME = {name: f"cairn.planning.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cairn.planning' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
