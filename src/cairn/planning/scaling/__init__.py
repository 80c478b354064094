"""Scaling laws: from small runs to what a large one will reach, and how to spend a budget between size and text."""

from cairn.planning.scaling.bootstrap import Estimate
from cairn.planning.scaling.chinchilla import Surface, SurfaceFit, fit_surface
from cairn.planning.scaling.envelope import fit_envelope
from cairn.planning.scaling.fit import FitConfig, Laws, Point, fit_laws, points_of, record
from cairn.planning.scaling.isoflop import fit_isoflop
from cairn.planning.scaling.kaplan import fit_joint, fit_single
from cairn.planning.scaling.runs import Run, read_runs, write_rows

__all__ = [
    "Estimate",
    "FitConfig",
    "Laws",
    "Point",
    "Run",
    "Surface",
    "SurfaceFit",
    "fit_envelope",
    "fit_isoflop",
    "fit_joint",
    "fit_laws",
    "fit_single",
    "fit_surface",
    "points_of",
    "read_runs",
    "record",
    "write_rows",
]
