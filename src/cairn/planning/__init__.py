"""What a run will cost before it starts: parameters, memory, time, money, layouts, scaling laws, launch files."""

from cairn.planning.budget import LAWS, Law, read_law, shape_of_size, twenty_tokens
from cairn.planning.hardware import DEVICES, Device, find_device, match_device
from cairn.planning.inference import Serving, ServingPlan, plan_serving
from cairn.planning.layout import Layout
from cairn.planning.memory import Memory, training_memory
from cairn.planning.parameters import Flops, Parameters, count_flops, count_parameters
from cairn.planning.plan import Choice, Training, TrainingPlan, plan_training
from cairn.planning.shapes import PUBLISHED, read_shape

__all__ = [
    "DEVICES",
    "LAWS",
    "PUBLISHED",
    "Choice",
    "Device",
    "Flops",
    "Law",
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
