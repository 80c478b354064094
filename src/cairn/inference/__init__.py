"""One engine for everything that generates."""

from cairn.inference.engine import Delta, Engine, Output, Request, TokenLogprob
from cairn.inference.sampling import SamplingParams
from cairn.inference.tools import ToolCall, assistant_message, converse, parse_tool_call, run_tool

__all__ = [
    "Delta",
    "Engine",
    "Output",
    "Request",
    "SamplingParams",
    "TokenLogprob",
    "ToolCall",
    "assistant_message",
    "converse",
    "parse_tool_call",
    "run_tool",
]
