"""From files to token shards, and the skills a small assistant can learn."""

from cairn.corpus.build import Corpus, CorpusConfig, build_corpus
from cairn.corpus.documents import Document, Quarantine
from cairn.corpus.shards import TokenShard, write_shard

__all__ = ["Corpus", "CorpusConfig", "Document", "Quarantine", "TokenShard", "build_corpus", "write_shard"]
