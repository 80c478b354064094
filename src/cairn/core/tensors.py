"""Tensors on disk: safetensors, with the errors of the file system told as such."""

import errno
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from cairn.core.files import ordinary_mode


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """`safetensors.torch.save_file` that raises OSError where the device refuses (a full disk, say), as `open` does, and
    whose file others may read, as far as the umask lets them."""
    try:
        with ordinary_mode(path):
            save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number.group(1)) if number else errno.EIO, str(error), str(path)) from None
