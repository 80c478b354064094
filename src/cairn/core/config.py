"""Typed configuration: one frozen dataclass is the Python API, the recipe file and the command line at once.

@dataclass(frozen=True)
class TrainConfig:
    steps: int = option(1000, "optimizer steps", minimum=1)

from_dict(TrainConfig, {"steps": 10})                  # refuses unknown keys and wrong types by name
add_options(parser, TrainConfig)                       # --steps N, with the default in the help
read_options(TrainConfig, parser.parse_args(), base)   # only what the user typed replaces `base`
"""

import argparse
import dataclasses
import difflib
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union

from cairn.core.errors import UserError

T = TypeVar("T")


def option(default: Any, help: str, *, choices: tuple | None = None, minimum: float | None = None) -> Any:
    """A dataclass field with what the command line and the checks need to know about it."""
    metadata = {"help": help, "choices": choices, "minimum": minimum}
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def from_dict(cls: type[T], values: dict[str, Any], base: T | None = None, where: str = "") -> T:
    """Build `cls` from plain values, on top of `base` (or the defaults). Raises UserError naming the key at fault."""
    if not isinstance(values, dict):
        raise UserError(f"{where or cls.__name__}: a table of settings is expected, got {values!r}")
    kinds = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}.{key}" if where else key
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(fields)}"
            raise UserError(f"unknown setting {name!r}{hint}")
        table = _table(kinds[key])
        if table is not None and isinstance(value, table):
            changes[key] = value
        elif table is not None and value is not None:
            inner = getattr(base, key) if base is not None else None
            changes[key] = from_dict(table, value, inner, name)
        else:
            changes[key] = _checked(value, kinds[key], fields[key].metadata, name)
    try:
        return dataclasses.replace(base, **changes) if base is not None else cls(**changes)  # type: ignore[type-var]
    except TypeError as error:
        raise UserError(f"{where or cls.__name__}: {error}") from None


def _table(kind: Any) -> type | None:
    """The dataclass of a field that holds one, or one or nothing."""
    return next(
        (k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k) and isinstance(k, type)), None
    )


def _checked(value: Any, kind: Any, metadata: Any, name: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, Union):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        return _checked(value, next(o for o in options if o is not type(None)), metadata, name)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{name} must be a list, got {value!r}")
        return tuple(_checked(v, typing.get_args(kind)[0], metadata, name) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is Path and isinstance(value, str):
        value = Path(value)
    # bool is a subclass of int in Python; `steps = true` is still a mistake.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name} must be of type {kind.__name__}, got {value!r}")
    if metadata.get("choices") and value not in metadata["choices"]:
        raise UserError(f"{name} must be one of {', '.join(map(str, metadata['choices']))}; got {value!r}")
    if metadata.get("minimum") is not None and not value >= metadata["minimum"]:
        raise UserError(f"{name} must be at least {metadata['minimum']}, got {value!r}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The plain, JSON-able values of a configuration; `from_dict` reads them back."""
    return dataclasses.asdict(config, dict_factory=lambda pairs: {k: _plain(v) for k, v in pairs})


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def read_toml(path: Path | str) -> dict[str, Any]:
    try:
        with open(path, "rb") as handle:
            return tomllib.loads(handle.read().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"recipe {path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not valid TOML: {error}") from None
    except OSError as error:
        raise UserError(f"recipe {path} cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class _Leaf:
    path: str
    kind: Any
    default: Any
    metadata: Any


def _leaves(cls: Any, base: Any, prefix: str = "") -> list[_Leaf]:
    kinds = typing.get_type_hints(cls)
    found = []
    for f in dataclasses.fields(cls):
        kind, default = kinds[f.name], getattr(base, f.name)
        if dataclasses.is_dataclass(kind):
            found += _leaves(kind, default, f"{prefix}{f.name}.")
        else:
            found.append(_Leaf(prefix + f.name, kind, default, f.metadata))
    return found


def add_options(parser: argparse.ArgumentParser, cls: type, base: Any | None = None) -> None:
    """Add `--key VALUE` for every field of `cls`; nested dataclasses become `--part.key`."""
    base = base if base is not None else cls()
    for leaf in _leaves(cls, base):
        kind = leaf.kind
        if typing.get_origin(kind) in (types.UnionType, Union):
            kind = next(o for o in typing.get_args(kind) if o is not type(None))
        flag = "--" + leaf.path.replace("_", "-")
        shown = ", ".join(map(str, leaf.default)) if isinstance(leaf.default, tuple) else leaf.default
        words: dict[str, Any] = {"dest": f"option:{leaf.path}", "default": argparse.SUPPRESS}
        default = "" if shown in (None, "") else f" (default: {shown})"
        words["help"] = f"{leaf.metadata.get('help', '')}{default}".replace("%", "%%")
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **words)
        elif typing.get_origin(kind) is tuple:
            parser.add_argument(flag, nargs="*", type=typing.get_args(kind)[0], metavar="VALUE", **words)
        else:
            choices = leaf.metadata.get("choices")
            metavar = None if choices else kind.__name__.upper()
            parser.add_argument(flag, type=kind, choices=choices, metavar=metavar, **words)


def read_options(cls: type[T], arguments: argparse.Namespace, base: T) -> T:
    """`base` with what was typed on the command line in its place."""
    tree: dict[str, Any] = {}
    for key, value in vars(arguments).items():
        if not key.startswith("option:"):
            continue
        *parents, last = key.removeprefix("option:").split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return from_dict(cls, tree, base)
