"""Documents and lines that say the same twice: exact and near-duplicates, found on disk in pure, resumable phases."""

from cairn.corpus.dedup.buckets import EXACT, DedupConfig, deduplicate, find_pairs, write_keys
from cairn.corpus.dedup.lines import LineConfig, dropped_lines, find_lines, without_lines, write_lines
from cairn.corpus.dedup.minhash import MinHashConfig, detection_probability, signatures
from cairn.corpus.dedup.union_find import cluster, describe_clusters, removed_in

__all__ = [
    "EXACT",
    "DedupConfig",
    "LineConfig",
    "MinHashConfig",
    "cluster",
    "deduplicate",
    "describe_clusters",
    "detection_probability",
    "dropped_lines",
    "find_lines",
    "find_pairs",
    "removed_in",
    "signatures",
    "without_lines",
    "write_keys",
    "write_lines",
]
