"""The model directory of an image classifier: config.json, model.safetensors, cairn.json. Whole or absent; no pickle."""

from pathlib import Path
from typing import Any

import torch

from cairn.core.config import from_dict, to_dict
from cairn.core.errors import UserError
from cairn.core.files import atomic_directory, hash_file, write_json
from cairn.core.tensors import save_tensors
from cairn.generative.cnn import CnnConfig, ImageClassifier
from cairn.models.directory import RECORD, check_fit, versions
from cairn.models.weights import WEIGHTS, read_object, read_tensors

MODEL_TYPE = "cairn-image-classifier"


def save_classifier(path: Path | str, model: ImageClassifier, record: dict[str, Any]) -> None:
    """Write the directory; what is there already has to be one as well."""
    path = Path(path)
    if path.exists() and not (path / "config.json").exists():
        raise UserError(f"{path} exists and is no model directory; it will not be replaced: choose another place")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_directory(path) as directory:
        write_json(directory / "config.json", {"model_type": MODEL_TYPE} | to_dict(model.config))
        save_tensors(tensors, directory / WEIGHTS, metadata={"format": "pt"})
        hashes = {WEIGHTS: hash_file(directory / WEIGHTS)}
        write_json(directory / RECORD, record | {"weights": hashes, "versions": versions()})


def load_classifier(path: Path | str) -> ImageClassifier:
    """The model of a directory that `save_classifier` wrote. Raises UserError for any other."""
    path = Path(path)
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is not a model directory (it has no config.json)")
    values = read_object(path / "config.json")
    if values.pop("model_type", None) != MODEL_TYPE:
        raise UserError(f"{path} holds another kind of model, not an image classifier")
    try:
        config = from_dict(CnnConfig, values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    tensors = read_tensors(path)
    with torch.device("meta"):  # a wrong config.json asks for no memory before the weights are seen to fit
        check_fit(tensors, ImageClassifier(config), path)
    model = ImageClassifier(config)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(tensors[name])
    return model.eval()
