"""Text to ids and back."""

from cairn.tokenizers.tokenizer import StreamDecoder, Tokenizer, train_tokenizer

__all__ = ["StreamDecoder", "Tokenizer", "train_tokenizer"]
