"""Where documents come from: folders of files of many formats, and data sets of the Hugging Face hub.

Everything streams in bounded memory. Bad records are counted and kept for the report, never silently lost.
"""

from cairn.corpus.sources.hub import read_hub
from cairn.corpus.sources.plan import SUFFIXES, InputPart, InputSlice, plan_inputs, read_folder, read_part

__all__ = ["SUFFIXES", "InputPart", "InputSlice", "plan_inputs", "read_folder", "read_hub", "read_part"]
