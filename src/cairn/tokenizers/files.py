"""Reading and writing tokenizers: Hugging Face's directory, and the files of other libraries.

What comes in: tokenizer.json (with tokenizer_config.json beside it), SentencePiece's `.model`, GPT-2's vocabulary and merges,
tiktoken's ranks, BERT's vocab.txt. What goes out: tokenizer.json, and tiktoken's ranks (`tiktoken.py`). Whatever a file asks
for and we do not do is refused by name: ids that are nearly right are worse than none.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cairn.core.errors import UserError
from cairn.core.files import read_json, write_json
from cairn.tokenizers import tiktoken
from cairn.tokenizers.byte_level import ByteLevelBPE
from cairn.tokenizers.model import Model
from cairn.tokenizers.tokenizer import Tokenizer

ROLES = ("bos", "eos", "pad", "unk", "cls", "sep", "mask")
MAX_FILE = 256 << 20


def load(path: Path | str) -> Tokenizer:
    """Read a directory or a single file, whatever its form. Raises UserError naming the file and what is wrong with it."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    readers: list[tuple[str, Callable[[Path], Tokenizer]]] = [
        ("tokenizer.json", _load_tokenizer_json),
        ("tokenizer.model", _load_sentencepiece),
        ("vocab.json", _load_gpt2),
        ("encoder.json", _load_gpt2),
        ("vocab.txt", _load_wordpiece),
    ]
    if path.is_dir():
        for name, reader in readers:
            if (path / name).exists():
                return _guarded(reader, path / name)
        raise UserError(f"{path} holds no tokenizer ({', '.join(name for name, _ in readers)})")
    if path.suffix == ".tiktoken":
        return _guarded(tiktoken.load, path)
    if path.suffix == ".model":
        return _guarded(_load_sentencepiece, path)
    if path.suffix == ".txt":
        return _guarded(_load_wordpiece, path)
    if path.name in ("vocab.json", "encoder.json") or path.name.endswith("-encoder.json"):
        return _guarded(_load_gpt2, path)
    return _guarded(_load_tokenizer_json, path)


def _guarded(reader: Callable[[Path], Tokenizer], path: Path) -> Tokenizer:
    if path.stat().st_size > MAX_FILE:
        raise UserError(f"{path} is larger than {MAX_FILE >> 20} MiB; that is no tokenizer")
    try:
        return reader(path)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} does not have the form it should ({type(error).__name__}: {error})") from None


# --- tokenizer.json


KINDS = ("BPE", "Unigram", "WordPiece", "WordLevel")


def _read_model(data: dict[str, Any]) -> Model:
    kind = data["model"].get("type", "BPE")
    if kind == "BPE" and not data["model"].get("byte_fallback"):
        return ByteLevelBPE.from_json(data)
    if kind == "BPE":
        from cairn.tokenizers.sentencepiece import SentencePieceBPE

        return SentencePieceBPE.from_json(data)
    if kind == "Unigram":
        from cairn.tokenizers.unigram import Unigram

        return Unigram.from_json(data)
    if kind == "WordPiece":
        from cairn.tokenizers.wordpiece import WordPiece

        return WordPiece.from_json(data)
    from cairn.tokenizers.levels import WordModel

    return WordModel.from_json(data)


def _load_tokenizer_json(path: Path) -> Tokenizer:
    data = read_json(path, max_bytes=MAX_FILE)
    config_path = path.with_name("tokenizer_config.json")
    config = read_json(config_path) if config_path.exists() else {}
    template = config.get("chat_template")
    template_file = path.with_name("chat_template.jinja")
    if template_file.exists():
        template = template_file.read_text(encoding="utf-8")
    if template is not None and not isinstance(template, str):
        raise UserError("several chat templates in one tokenizer_config.json are not supported")

    added = data.get("added_tokens") or []
    special: dict[str, int] = {}
    for token in added:
        if token.get("single_word"):
            raise UserError(f"added token {token['content']!r} matches whole words only, which is not supported")
        if not isinstance(token["content"], str) or not isinstance(token["id"], int) or token["id"] < 0:
            raise UserError(f"added token {token!r} has no text or no id")
        if special.setdefault(token["content"], token["id"]) != token["id"]:
            raise UserError(f"the special token {token['content']!r} is given twice")
    kind = data["model"].get("type", "BPE")
    if kind not in KINDS:
        raise UserError(f"model type {kind!r} is not known; known: {', '.join(KINDS)}")
    _check_ids(data["model"])
    if kind in ("BPE", "WordLevel"):  # elsewhere its place in the vocabulary matters
        vocab = {text: i for text, i in data["model"]["vocab"].items() if text not in special}
        data = data | {"model": data["model"] | {"vocab": vocab}}
    return Tokenizer(
        _read_model(data),
        special,
        chat_template=template,
        names={role: _token_text(config.get(f"{role}_token"), special) for role in ROLES},
        around=_read_post_processor(data.get("post_processor")),
        strip_left=[t["content"] for t in added if t.get("lstrip")],
        strip_right=[t["content"] for t in added if t.get("rstrip")],
        shown=[t["content"] for t in added if not t.get("special", True)],
    )


def _check_ids(model: dict[str, Any]) -> None:
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        wrong = next((t for t, i in vocab.items() if type(i) is not int or not 0 <= i < 1 << 31), None)
        if wrong is not None:
            raise UserError(f"the token {wrong!r} has the id {vocab[wrong]!r}; ids are whole numbers from 0 on")


def _token_text(value: Any, special: dict[str, int]) -> str | None:
    """A name in tokenizer_config.json is a text or an object; one that is no token of this file means nothing here."""
    text = value["content"] if isinstance(value, dict) else value
    return text if text in special else None


def _read_post_processor(data: dict[str, Any] | None) -> tuple[list[str], list[str]]:
    """Special tokens before and after a single text."""
    if data is None or data["type"] == "ByteLevel":
        return [], []
    if data["type"] == "Sequence":
        parts = [_read_post_processor(part) for part in data["processors"]]
        return [t for before, _ in parts for t in before], [t for _, after in parts for t in after]
    if data["type"] in ("BertProcessing", "RobertaProcessing"):
        return [data["cls"][0]], [data["sep"][0]]
    if data["type"] != "TemplateProcessing":
        raise UserError(f"post_processor {data['type']!r} is not supported")
    before: list[str] = []
    after: list[str] = []
    seen = False
    for part in data["single"]:
        if "Sequence" in part:
            if seen:
                raise UserError("the post_processor repeats the text, which is not supported")
            seen = True
        else:
            (after if seen else before).append(part["SpecialToken"]["id"])
    return before, after


def save(tokenizer: Tokenizer, directory: Path | str) -> None:
    """tokenizer.json and tokenizer_config.json, which `tokenizers` and `transformers` load with identical ids."""
    directory = Path(directory)
    parts = tokenizer.model.to_json()
    added = [
        {
            "id": i,
            "content": text,
            "single_word": False,
            "lstrip": text in tokenizer.strip_left,
            "rstrip": text in tokenizer.strip_right,
            "normalized": False,
            "special": text not in tokenizer.shown,
        }
        for text, i in sorted(tokenizer.special.items(), key=lambda item: item[1])
    ]
    model = parts["model"]
    if isinstance(model["vocab"], dict):
        # Special tokens too: `tokenizers` gives an added token that the model does not know an id of its own choice.
        vocab = dict(sorted((model["vocab"] | tokenizer.special).items(), key=lambda item: item[1]))
        model = model | {"vocab": vocab}
    write_json(
        directory / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": parts["normalizer"],
            "pre_tokenizer": parts["pre_tokenizer"],
            "post_processor": _post_processor(tokenizer),
            "decoder": parts["decoder"],
            "model": model,
        },
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": text for role, text in tokenizer.names.items()},
        "chat_template": tokenizer.chat_template,
    }
    write_json(directory / "tokenizer_config.json", {k: v for k, v in config.items() if v is not None})


def _post_processor(tokenizer: Tokenizer) -> dict[str, Any] | None:
    before, after = tokenizer.around
    if not before and not after:
        return None

    def tokens(names: tuple[str, ...], kind: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": name, "type_id": kind}} for name in names]

    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [*tokens(before, 0), first, *tokens(after, 0)],
        "pair": [*tokens(before, 0), first, *tokens(after, 0), second, *tokens(after, 1)],
        "special_tokens": {
            name: {"id": name, "ids": [tokenizer.special[name]], "tokens": [name]} for name in {*before, *after}
        },
    }


# --- other libraries' files


def _load_gpt2(path: Path) -> Tokenizer:
    """vocab.json and merges.txt, under whatever names: the merges are the .txt or .bpe file that belongs to `path`."""
    names = ["merges.txt", "vocab.bpe", path.name.replace("encoder.json", "vocab.bpe")]
    merges_path = next((path.with_name(n) for n in names if path.with_name(n).exists() and n != path.name), None)
    if merges_path is None:
        raise UserError(f"the merges are missing (merges.txt or vocab.bpe beside {path.name})")
    vocab = read_json(path, max_bytes=MAX_FILE)
    _check_ids({"vocab": vocab})
    lines = merges_path.read_text(encoding="utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    wrong = next((m for m in merges if len(m) != 2), None)
    if wrong is not None:
        raise UserError(f"{merges_path}: {' '.join(wrong)[:80]!r} is not a pair")
    end = "<|endoftext|>"
    special = {end: vocab.pop(end)} if end in vocab else {}
    from cairn.tokenizers.pretokenize import GPT2

    model = ByteLevelBPE(vocab, merges, pattern=GPT2)  # type: ignore[arg-type]
    return Tokenizer(model, special, names={role: end for role in ("bos", "eos") if special})


def _load_sentencepiece(path: Path) -> Tokenizer:
    from cairn.tokenizers.sentencepiece import load_model

    return load_model(path)


def _load_wordpiece(path: Path) -> Tokenizer:
    from cairn.tokenizers.wordpiece import load_vocabulary

    return load_vocabulary(path)
