"""A large corpus built by a recipe: read, clean, deduplicate, encode; in parallel, and going on after any interruption."""

from cairn.corpus.pipeline.job import Build, build
from cairn.corpus.pipeline.recipe import Recipe, SourceConfig, read_recipe

__all__ = ["Build", "Recipe", "SourceConfig", "build", "read_recipe"]
