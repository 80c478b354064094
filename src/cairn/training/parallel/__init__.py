"""One process or many: who works on what, and what runs a step's forward and backward passes. docs/parallel.md explains."""

from cairn.training.parallel.clip import clip_gradients
from cairn.training.parallel.worker import Worker, build_worker
from cairn.training.parallel.world import World, join

__all__ = ["Worker", "World", "build_worker", "clip_gradients", "join"]
