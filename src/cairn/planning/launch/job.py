"""A job: one training command on several nodes, and what holds of it whoever starts it.

Every target starts the same script on every node, which joins the nodes' processes by torchrun. A node that is lost ends
the others' processes; torchrun starts them again when it is back, and cairn goes on from its newest checkpoint.
"""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.planning.layout import Layout

# A name becomes a file name, a DNS label and a line of a batch script: what all of them allow, with room for "-NODE".
NAME = re.compile(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
GRACE = 120  # seconds between the warning and the end: time for a step and its checkpoint


@dataclass(frozen=True)
class JobConfig:
    name: str = option("cairn", "name of the job: small letters, digits and dashes")
    nodes: int = option(1, "nodes (machines)", minimum=1)
    gpus: int = option(1, "GPUs of a node; 0 trains on the CPU", minimum=0)
    processes: int = option(0, "processes of a node; 0 means one for each GPU", minimum=0)
    restarts: int = option(3, "times that processes which failed are started again", minimum=0)
    port: int = option(29500, "port on the first node where the nodes meet", minimum=1024)
    folder: str = option("", "folder to run in (default: where `cairn launch` runs; in a container its own)")
    python: str = option("", "Python to run (default: this one; in a container: python)")
    env: tuple[str, ...] = option((), "variables of the environment, NAME=VALUE")

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UserError(
                f"name {self.name!r} must be small letters, digits and dashes, begin with a letter, and have at most 50"
            )
        if self.port > 65535:
            raise UserError(f"port must be at most 65535, got {self.port}")
        for entry in self.env:
            if not VARIABLE.fullmatch(entry.partition("=")[0]) or "=" not in entry or "\0" in entry:
                raise UserError(f"env {entry!r} must be NAME=VALUE")

    @property
    def per_node(self) -> int:
        return self.processes or self.gpus or 1

    @property
    def total(self) -> int:
        return self.nodes * self.per_node


@dataclass(frozen=True)
class Job:
    """A command, `words` (what `python -m` runs and its arguments), and what to run it on.

    layout: the command's; None where it has none to set.
    """

    config: JobConfig
    words: tuple[str, ...]
    layout: Layout | None = None

    def script(
        self, *, head: str = "${HEAD:?}", rank: str = "${NODE_RANK:?}", python: str = "", folder: str = ""
    ) -> str:
        """What one node runs. head, rank: shell words for the first node's host name and this node's number."""
        config = self.config
        if config.nodes == 1:
            meeting = ["--standalone"]
        else:
            # The first node holds the store where all meet. Nodes may come up minutes apart, and one that was lost may
            # be replaced within the hour.
            conf = f"is_host=$(({rank} == 0)),read_timeout=600,join_timeout=3600"
            meeting = ["--rdzv-backend c10d", f'--rdzv-endpoint "{head}:{config.port}"', f"--rdzv-id {config.name}"]
            meeting += [f'--rdzv-conf "{conf}"']
        counts = [
            f"--nnodes {config.nodes}",
            f"--nproc-per-node {config.per_node}",
            f"--max-restarts {config.restarts}",
        ]
        first = f"exec {shlex.quote(config.python or python or sys.executable)} -m torch.distributed.run"
        return self.preamble(folder) + one_command([first, *counts, *meeting, *options(["-m", *self.words])])

    def preamble(self, folder: str = "") -> str:
        """The lines before the command: strict mode, folder, environment."""
        count = plural(self.config.nodes, "node") + " x " + plural(self.config.per_node, "process", "processes")
        lines = [
            "#!/usr/bin/env bash",
            f"# {self.config.name}: {count}{f' ({self.layout.describe()})' if self.layout else ''}.",
            "# Run again after any interruption, it goes on from the newest checkpoint.",
            "set -euo pipefail",
        ]
        if self.config.folder or folder:
            lines.append(f"cd {shlex.quote(self.config.folder or folder)}")
        for entry in self.config.env:
            name, _, value = entry.partition("=")
            lines.append(f"export {name}={shlex.quote(value)}")
        # What torchrun waits after a SIGTERM before it kills: a checkpoint has to be written in it.
        lines.append(f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={GRACE - 30}")
        return "\n".join(lines) + "\n"


def options(words: Sequence[str]) -> list[str]:
    """Words quoted for a shell, an option and its values on one line.

    >>> options(["-m", "cairn.cli.main", "pretrain", "--corpus", "my texts", "--compile"])
    ['-m cairn.cli.main pretrain', "--corpus 'my texts'", '--compile']
    """
    lines: list[list[str]] = []
    for word in words:
        if not lines or (word.startswith("--") and len(word) > 2):
            lines.append([])
        lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def one_command(parts: Sequence[str]) -> str:
    """Quoted parts of one command, a line each."""
    return " \\\n    ".join(parts) + "\n"


def plural(number: int, one: str, many: str = "") -> str:
    """
    >>> plural(1, "node"), plural(2, "node"), plural(2, "process", "processes")
    ('1 node', '2 nodes', '2 processes')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def check_layout(layout: Layout, config: JobConfig) -> list[str]:
    """Notes on a layout that works but not well. Raises UserError where its processes are not those of the job."""
    total, fixed = config.total, layout.data * layout.tensor * layout.pipeline
    if layout.size != total:
        started = f"{plural(config.nodes, 'node')} x {plural(config.per_node, 'process', 'processes')} = {total}"
        change = f"--train.parallel.shard {total // fixed}" if total % fixed == 0 else "degrees whose product is that"
        raise UserError(
            f"the command's layout ({layout.describe()}) is of {plural(layout.size, 'process', 'processes')}, "
            f"the job starts {started}: give the command {change}"
        )
    notes = []
    if layout.tensor > config.per_node or config.per_node % layout.tensor:
        notes.append(
            f"tensor {layout.tensor} reaches over nodes of {config.per_node} processes: every layer waits for the network; "
            f"a divisor of {config.per_node} keeps it inside a node"
        )
    return notes
