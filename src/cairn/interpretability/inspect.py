"""Look into the stages of one model (or a single one): pictures and figures in a folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cairn.core.compute import pick_device
from cairn.core.errors import UserError
from cairn.core.files import write_json, write_text
from cairn.interpretability.attention import InductionScores, induction_scores, patterns, summarize_heads
from cairn.interpretability.changes import Change, compare
from cairn.interpretability.lens import Lens, logit_lens
from cairn.interpretability.pictures import (
    TOKENS_SHOWN,
    attention_maps,
    change_heatmap,
    induction_bars,
    lens_heatmap,
    token_labels,
)
from cairn.models import Transformer, check_decoder
from cairn.quantization import load
from cairn.tokenizers import Tokenizer

# Repeats names and a phrase, so that a head that copies has something to do.
TEXT = "Anna walked to the river with Tom. At the river Tom gave Anna a stone, and Anna walked to the"


def inspect_models(paths: Sequence[Path | str], text: str, out: Path | str, *, device: str = "auto") -> dict[str, Any]:
    """Read `text` with every model directory of `paths` and write what happens inside to the folder `out`.

    attention.svg and lens.svg show the last model, induction.svg all of them, changes.svg (for two and more) what
    changed from each to the next; inspect.json holds the figures, which are returned:

    {"text", "tokens", "pictures": [{"title", "caption", "file"}], "models": {name: {"induction", "heads",
    "next_probability": of the token that really follows, by stage of the lens}}, "lens": of the last model,
    "changes": [a row for each transition and layer], "weights": [{"from", "to", "changes": {parameter: change}}]}

    `file` counts from the folder that holds `out`. A model's name is its folder's, numbered where two are equal. Raises
    UserError for a text of no token, and for models of different shapes or tokenizers.
    """
    out = Path(out)
    names = _names([Path(path) for path in paths])
    loaded = {name: load(path, device=pick_device(device)) for name, path in zip(names, paths)}
    for model, _ in loaded.values():
        check_decoder(model)
    models = {name: model for name, (model, _) in loaded.items()}
    last, tokenizer = loaded[names[-1]]
    ids_T = _encode(last, tokenizer, text)
    if any(not torch.equal(_encode(m, t, text).cpu(), ids_T.cpu()) for m, t in loaded.values()):
        raise UserError("the models read the text with different tokenizers; only stages of one model can be compared")
    changes = compare(models, ids_T[None])  # before anything slow: it refuses models of different shapes
    labels = token_labels(tokenizer, ids_T.tolist())
    ordinary = sorted(set(tokenizer.vocab.values()) - tokenizer.special_ids)

    induction = {name: induction_scores(model, ordinary, bos=tokenizer.bos_id) for name, model in models.items()}
    pattern = {name: patterns(model, ids_T[None])[0] for name, model in models.items()}
    lens = {name: logit_lens(model, ids_T) for name, model in models.items()}
    pictures = [
        (
            "attention.svg",
            f"Attention of {names[-1]}",
            f"Each square is one head reading the first {min(len(ids_T), TOKENS_SHOWN)} tokens; a row shows where that "
            "token looks.",
            attention_maps(pattern[names[-1]], labels),
        ),
        (
            "lens.svg",
            f"Logit lens of {names[-1]}",
            "What the model would predict next if it stopped after each block, and how sure it would be.",
            lens_heatmap(lens[names[-1]], labels, tokenizer),
        ),
        (
            "induction.svg",
            "Induction heads",
            "Heads that look at what followed the last time: they make a model repeat what it has read.",
            induction_bars(induction),
        ),
    ]
    if changes:
        caption = "How far each matrix moved against its size, and how far the stream behind each block turned."
        pictures.append(("changes.svg", "What each stage changed", caption, change_heatmap(changes)))
    for file, _, _, picture in pictures:
        write_text(out / file, picture)
    result = {
        "text": text,
        "tokens": labels,
        "pictures": [{"title": t, "caption": c, "file": f"{out.resolve().name}/{file}"} for file, t, c, _ in pictures],
        "models": {
            name: {
                "induction": _induction_figures(induction[name]),
                "heads": summarize_heads(pattern[name]),
                "next_probability": lens[name].next_probability_ST.mean(-1).tolist(),
            }
            for name in names
        },
        "lens": _lens_figures(lens[names[-1]], tokenizer),
        "changes": [row for change in changes for row in _change_rows(change)],
        "weights": [{"from": change.before, "to": change.after, "changes": change.weights} for change in changes],
    }
    write_json(out / "inspect.json", result)
    return result


def _names(paths: Sequence[Path]) -> list[str]:
    """A short name for each directory, used once."""
    names: list[str] = []
    for path in paths:
        base = re.sub(r"[^\w.-]", "_", path.resolve().name) or "model"
        name, count = base, 2
        while name in names:
            name, count = f"{base}-{count}", count + 1
        names.append(name)
    return names


def _encode(model: Transformer, tokenizer: Tokenizer, text: str) -> torch.Tensor:
    """The text's ids after the beginning-of-text token, as the engine reads a prompt; cut where the positions end."""
    ids = tokenizer.encode(text)
    if tokenizer.bos_id is not None:
        ids = [tokenizer.bos_id, *ids]
    ids = ids[: model.config.max_positions]
    if len(ids) < 2:
        raise UserError("the text is too short to look at; give a sentence with --text")
    return torch.tensor(ids, device=model.embed.weight.device)


def _induction_figures(scores: InductionScores) -> dict[str, Any]:
    return {
        "score": scores.score_LH.tolist(),
        "low": scores.low_LH.tolist(),
        "high": scores.high_LH.tolist(),
        "chance": scores.chance,
        "sequences": scores.sequences,
        "length": scores.length,
    }


def _lens_figures(lens: Lens, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """For each stage of the lens the likeliest tokens at each position and their probabilities."""
    return [
        {"tokens": [token_labels(tokenizer, ids) for ids in ids_TK], "probabilities": probabilities_TK}
        for ids_TK, probabilities_TK in zip(lens.top_ids_STK.tolist(), lens.top_probabilities_STK.tolist())
    ]


def _change_rows(change: Change) -> list[dict[str, Any]]:
    """A row for each layer: its matrices' changes by their short names, and those of the stream behind the block."""
    kinds = change.matrix_kinds()
    return [
        {"from": change.before, "to": change.after, "layer": layer}
        | {kind.rpartition(".")[2]: change.weights[f"blocks.{layer}.{kind}.weight"] for kind in kinds}
        | {"stream 1 - cosine": row["cosine"], "stream CKA": row["cka"]}
        for layer, row in enumerate(change.layers)
    ]
