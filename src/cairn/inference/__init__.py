"""One engine for everything that generates."""

from cairn.inference.beam import Beam, beam_search
from cairn.inference.constrain import Constraint
from cairn.inference.draft import Lookup, ModelDraft
from cairn.inference.engine import Engine, EngineStats
from cairn.inference.request import Delta, Output, Request, TokenLogprob
from cairn.inference.sampling import SamplingParams
from cairn.inference.tools import ToolCall, assistant_message, converse, parse_tool_call, run_tool

__all__ = [
    "Beam",
    "Constraint",
    "Delta",
    "Engine",
    "EngineStats",
    "Lookup",
    "ModelDraft",
    "Output",
    "Request",
    "SamplingParams",
    "TokenLogprob",
    "ToolCall",
    "assistant_message",
    "beam_search",
    "converse",
    "parse_tool_call",
    "run_tool",
]
