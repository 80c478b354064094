"""The offline default: real text that lies on every machine with Python.

General corpus: the standard library's docstrings, module by module, and the language reference that `help()` shows.
Domain corpus: the source code of the same modules. Nothing is downloaded and, apart from the built-in modules, nothing
is imported: docstrings are read from the syntax tree.
"""

import ast
import functools
import importlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cairn.corpus.documents import Document

# Not part of what a program uses: tests, packages installed beside the library, build leftovers.
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib-dynload", "ensurepip"}
# Compiled modules that every CPython has and that are free of side effects when imported.
COMPILED = ("builtins", "math", "cmath", "itertools", "_collections", "_functools", "_operator", "_io", "time", "posix",
            "_struct", "array", "zlib", "binascii", "select", "_random", "_datetime", "_json", "_csv", "unicodedata",
            "_socket", "_ssl", "_sqlite3", "_thread", "_weakref", "gc", "sys", "marshal", "errno", "_codecs", "_ast",
            "_asyncio", "_bisect", "_heapq", "_pickle", "_decimal", "_hashlib", "mmap", "fcntl", "resource",
            "_statistics", "_contextvars", "_queue", "_sre", "_string", "_locale", "_signal", "atexit", "faulthandler",
            "pyexpat", "_elementtree", "_lzma", "_bz2", "_posixsubprocess", "_multiprocessing", "_tracemalloc",
            "_warnings", "_imp", "_abc", "_symtable", "_opcode", "grp", "pwd", "syslog", "termios", "readline")  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A docstring: `path` is the dotted name inside the module ("" for the module's own), `kind` def or class."""

    path: str
    kind: str
    arguments: str
    text: str


@dataclass(frozen=True)
class Module:
    name: str
    source: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Name:
    """A public function or class: `module` is where it lives, `summary` the first sentence of its docstring."""

    name: str
    module: str
    signature: str
    summary: str


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module of the standard library whose source is here, in the order of names."""
    return tuple(_read_modules())


def _read_modules() -> Iterator[Module]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.startswith("config-"))
        files += [Path(folder) / n for n in names if n.endswith(".py") and n.isascii()]
    for file in sorted(files):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not all(part.isidentifier() for part in name.split(".")) or parts[0] == "pydoc_data":
            continue
        try:
            source = file.read_text(encoding="utf-8")
            # The tree is dropped at once: hundreds of kept trees make the garbage collector slower than the parser.
            yield Module(name, source, tuple(_entries(ast.parse(source), "")))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue  # templates of other Python versions, files in other encodings


def split_key(name: str) -> str:
    """What decides a module's side of the split: `_pyio`, `_io` and `io` say nearly the same, so they share one.

    >>> split_key("_pydecimal"), split_key("_io"), split_key("json.decoder")
    ('decimal', 'io', 'json.decoder')
    """
    bare = name.lstrip("_")
    return bare.removeprefix("py") if name.startswith("_py") else bare


def documentation() -> Iterator[Document]:
    """English: the docstrings of each module, then the pages of the language reference."""
    seen: set[str] = set()  # inherited and copied docstrings occur once
    for module in modules():
        text = _docstrings(module, seen)
        if len(text) > 200:
            yield Document(f"doc/{module.name}", text)
    for name in COMPILED:
        try:
            text = _compiled_docstrings(importlib.import_module(name), seen)
        except ImportError:
            continue
        if len(text) > 200:
            yield Document(f"doc/{name}", text)
    from pydoc_data import topics

    for topic, text in sorted(topics.topics.items()):
        yield Document(f"reference/{topic}", text.strip() + "\n")


def source_code() -> Iterator[Document]:
    for module in modules():
        if 500 < len(module.source) < 300_000:
            yield Document(f"source/{module.name}", module.source)


def _docstrings(module: Module, seen: set[str]) -> str:
    parts = [f"# {module.name}\n"]
    for entry in module.entries:
        if entry.text in seen:
            continue
        seen.add(entry.text)
        heading = {"": "", "class": f"class {entry.path}\n", "def": f"{entry.path}({entry.arguments})\n"}[entry.kind]
        parts.append(f"{heading}{entry.text}\n")
    return "\n".join(parts) if len(parts) > 1 else ""


def _entries(node: ast.AST, path: str) -> Iterator[Entry]:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        if not isinstance(node, ast.Module):
            path = f"{path}.{node.name}" if path else node.name
        text = ast.get_docstring(node)
        if text:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield Entry(path, "def", _arguments(node.args), text)
            else:
                yield Entry(path, "class" if isinstance(node, ast.ClassDef) else "", "", text)
    # Definitions stand among statements: expressions, most of a tree, need not be visited.
    for field in ("body", "orelse", "handlers", "finalbody"):
        for child in getattr(node, field, ()):
            if isinstance(child, (ast.stmt, ast.ExceptHandler)):
                yield from _entries(child, path)


def _arguments(a: ast.arguments) -> str:
    names = [x.arg for x in (*a.posonlyargs, *a.args)]
    if a.vararg:
        names.append(f"*{a.vararg.arg}")
    names += [x.arg for x in a.kwonlyargs]
    if a.kwarg:
        names.append(f"**{a.kwarg.arg}")
    return ", ".join(n for n in names if n not in ("self", "cls"))


def _compiled_docstrings(module: object, seen: set[str]) -> str:
    parts = [f"# {module.__name__.lstrip('_')}\n"]  # type: ignore[attr-defined]
    for name, value in sorted(vars(module).items()):
        if name.startswith("__"):
            continue
        found = [(name, value)]
        if inspect.isclass(value):
            found += [(f"{name}.{n}", v) for n, v in sorted(vars(value).items()) if not n.startswith("__")]
        for path, thing in found:
            text = getattr(thing, "__doc__", None)
            if (
                not isinstance(text, str)
                or len(text) < 30
                or text in seen
                or isinstance(thing, (int, str, float, tuple))
            ):
                continue
            seen.add(text)
            parts.append(f"{path}\n{inspect.cleandoc(text)}\n")
    return "\n".join(parts) if len(parts) > 1 else ""


def public_names() -> list[Name]:
    """Public functions and classes of the library with a docstring, each under the one module it is defined in.

    A name that several modules define is left out: a question about it would have several answers.
    """
    found: dict[str, list[Name]] = {}
    for module in modules():
        if any(part.startswith("_") for part in module.name.split(".")) or module.name.split(".")[0] in _NOT_TAUGHT:
            continue
        for entry in module.entries:
            name = entry.path
            if not entry.kind or "." in name or name.startswith("_") or len(name) < 4:
                continue
            summary = " ".join(entry.text.split("\n\n")[0].split())
            signature = f"({entry.arguments})" if entry.kind == "def" else ""
            found.setdefault(name.lower(), []).append(Name(name, module.name, signature, summary[:200]))
    return [names[0] for key, names in sorted(found.items()) if len(names) == 1]


_NOT_TAUGHT = {"idlelib", "lib2to3", "turtledemo", "encodings", "distutils", "pydoc_data"}


def python_version() -> str:
    return sys.version.split()[0]
