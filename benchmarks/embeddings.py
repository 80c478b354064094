"""How fast word2vec and fastText train, how much memory they take, and how good the vectors are, against gensim.

    python benchmarks/embeddings.py [--quick] [--json FILE]

Every figure is of a process of its own, and the processes take turns; a row is the median of the turns. Speeds are words of
the text a second while training, without counting the words, which has a row of its own. Settings are the defaults of
both: 100 dimensions, window 5, 5 negatives, words left out above 0.001 of the text. gensim reads lists of words in memory
and, in another process, the file itself (its `corpus_file`): the faster of both is the peer. On a busy machine look at
the words a CPU second, which `--json` has beside each row of one worker. Of the peak memory, some 60 MB are numba's compiler,
which is most of it for a small vocabulary.

The text is drawn from Zipf's law (50,000 words), and WikiText-2's validation text where it lies beside the checkout. Quality
there is Spearman's correlation with WordSim-353, the mean of three seeds each: with some 130 pairs known, its 95 %
interval is near +-0.17, so a ratio between 0.6 and 1.6 is no difference.
"""

import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
from measure import Row, fresh, main, row

SHARED = Path(__file__).parents[2] / "shared" / "data"
DISTINCT, SENTENCE = 50_000, 20

# What every process runs: path, kind (word2vec or fasttext), model, loss, workers, epochs, seed, buckets, reading, file.
SETTINGS = """
import json, sys, time
path, kind, model, loss, workers, epochs, seed, buckets, reading, out = sys.argv[1:]
workers, epochs, seed, buckets = int(workers), int(epochs), int(seed), int(buckets)
def report(words, wall, cpu):
    figures = {"speed": words / (time.perf_counter() - wall), "cpu": words / (time.process_time() - cpu)}
    print(json.dumps(figures))
"""

OURS = (
    SETTINGS
    + """
from cairn.embeddings import FastTextConfig, Word2VecConfig, WordVectors, plain
from cairn.embeddings.spool import Spool
from cairn.embeddings.subwords import subword_bags
from cairn.embeddings.fasttext import composed
from cairn.embeddings.training import initial, prepare, train
def run(source, epochs, min_count, timed):
    shared = {"model": model, "loss": loss, "workers": workers, "epochs": epochs, "seed": seed, "min_count": min_count}
    config = FastTextConfig(buckets=buckets, **shared) if kind == "fasttext" else Word2VecConfig(**shared)
    wall, cpu = time.perf_counter(), time.process_time()
    with Spool() as spool:
        found = prepare(source, config, spool, None)
        words = found.vocabulary.words
        if timed == "reading":
            return report(spool.words, wall, cpu)
        if kind == "fasttext":
            bags = subword_bags(words, 3, 6, buckets)
            inputs = initial(len(words) + buckets, 100, 0.01, seed)
        else:
            bags, inputs = plain.Bags.of_words(len(words)), initial(len(words), 100, 0.005, seed)
        wall, cpu = time.perf_counter(), time.process_time()
        train(spool, found, bags, inputs, config)
        if timed:
            report(epochs * spool.words, wall, cpu)
    if out:
        WordVectors(words, composed(bags, inputs)).save(out)
run([["cairn", "trail"]] * 10, 1, 1, "")  # compiles, or loads what was compiled
run(path, epochs, 5, reading or "training")
"""
)

THEIRS = (
    SETTINGS
    + """
from gensim.models import FastText, Word2Vec
from gensim.models.word2vec import LineSentence
hs = int(loss == "hierarchical-softmax")
shared = {"vector_size": 100, "sg": int(model == "skipgram"), "hs": hs, "negative": 0 if hs else 5, "workers": workers}
shared |= {"seed": seed, "epochs": epochs}
trained = FastText(bucket=buckets, **shared) if kind == "fasttext" else Word2Vec(**shared)
wall, cpu = time.perf_counter(), time.process_time()
if reading == "reading":
    trained.build_vocab(LineSentence(path))
    report(trained.corpus_total_words, wall, cpu)
else:
    source = {"corpus_file": path} if reading == "file" else {"corpus_iterable": list(LineSentence(path))}
    trained.build_vocab(**source)
    words = trained.corpus_total_words
    wall, cpu = time.perf_counter(), time.process_time()
    trained.train(**source, total_words=words, total_examples=trained.corpus_count, epochs=epochs)
    report(epochs * words, wall, cpu)
if out:
    from cairn.embeddings import WordVectors
    WordVectors(trained.wv.index_to_key, trained.wv.vectors).save(out)
"""
)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def one(code: str, *arguments: object) -> dict[str, float]:
    return fresh(code, *arguments, environment=ENVIRONMENT)


def zipf_text(path: Path, words: int) -> Path:
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, DISTINCT + 1)
    drawn = rng.choice(DISTINCT, size=words, p=share / share.sum())
    names = np.array([f"{letter}{k:x}" for k, letter in zip(range(DISTINCT), "aeioubcdf" * DISTINCT)])
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, words, SENTENCE):
            file.write(" ".join(names[drawn[start : start + SENTENCE]]) + "\n")
    return path


def speed(name: str, path: Path, settings: tuple[object, ...], turns: int) -> Row:
    """settings: kind, model, loss, workers, epochs, seed, buckets."""
    ours, lists, files = [], [], []
    for _ in range(turns):
        ours.append(one(OURS, path, *settings, "", ""))
        lists.append(one(THEIRS, path, *settings, "lists", ""))
        files.append(one(THEIRS, path, *settings, "file", ""))

    def median(runs: list[dict[str, float]], key: str) -> float:
        return statistics.median(run[key] for run in runs)

    theirs = max(lists, files, key=lambda runs: median(runs, "speed"))
    peer = f"gensim {'lists' if theirs is lists else 'file'}"
    value, peer_value = median(ours, "speed"), median(theirs, "speed")
    found = row(name, peer, value, peer_value, "words/s", 1.0, less_is_better=False)
    if settings[3] == 1:
        found |= {"cpu_value": median(ours, "cpu"), "cpu_peer_value": median(theirs, "cpu")}
    return found


def speeds(zipf: Path, quick: bool) -> list[Row]:
    turns, buckets = (1, 20_000) if quick else (5, 2_000_000)
    rows = []
    for kind, model, loss in (
        ("word2vec", "skipgram", "negative-sampling"),
        ("word2vec", "cbow", "negative-sampling"),
        ("word2vec", "skipgram", "hierarchical-softmax"),
        ("word2vec", "cbow", "hierarchical-softmax"),
        ("fasttext", "skipgram", "negative-sampling"),
        ("fasttext", "cbow", "negative-sampling"),
    ):
        short = {"negative-sampling": "NS", "hierarchical-softmax": "HS"}[loss]
        # More epochs where one is over in an instant.
        epochs = 1 if quick or kind == "fasttext" else {"skipgram": 2, "cbow": 6}[model]
        for workers in (2,) if quick else (1, 2):
            name = f"{kind} {model} {short}, Zipf, workers: {workers}"
            rows.append(speed(name, zipf, (kind, model, loss, workers, epochs, 1, buckets), turns))
    wikitext = SHARED / "text" / "wikitext2-valid.txt"
    if wikitext.exists() and not quick:
        for workers in (1, 2):
            settings = ("word2vec", "skipgram", "negative-sampling", workers, 10, 1, buckets)
            rows.append(speed(f"word2vec skipgram NS, WikiText-2, workers: {workers}", wikitext, settings, turns))
    return rows


def many_words(path: Path, words: int) -> Path:
    """Each of so many different words five times, in any order."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(words), 5))
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, len(order), SENTENCE):
            file.write(" ".join(f"w{number:x}" for number in order[start : start + SENTENCE]) + "\n")
    return path


def counting(zipf: Path, turns: int) -> Row:
    settings = ("word2vec", "cbow", "negative-sampling", 1, 1, 1, 1)
    ours, theirs = [], []
    for _ in range(turns):
        ours.append(one(OURS, zipf, *settings, "reading", "")["speed"])
        theirs.append(one(THEIRS, zipf, *settings, "reading", "")["speed"])
    value, peer_value = statistics.median(ours), statistics.median(theirs)
    return row("counting words", "gensim LineSentence", value, peer_value, "words/s", 1.0, less_is_better=False)


def memory(name: str, path: Path, goal: float) -> Row:
    settings = ("word2vec", "cbow", "negative-sampling", 1, 1, 1, 1)
    value, peer_value = (
        one(code, path, *settings, reading, "")["peak_mb"] for code, reading in ((OURS, ""), (THEIRS, "file"))
    )
    return row(f"peak memory, {name}", "gensim file", value, peer_value, "MB", goal, less_is_better=True)


def quality(folder: Path) -> list[Row]:
    from cairn.corpus import Quarantine
    from cairn.embeddings import WordVectors
    from cairn.embeddings.similarity import correlate, read_pairs

    text, judged = SHARED / "text" / "wikitext2-valid.txt", SHARED / "embeddings" / "EN-WS-353-ALL.txt"
    if not (text.exists() and judged.exists()):
        return []
    pairs = read_pairs(judged, Quarantine())
    means = []
    for code in (OURS, THEIRS):
        found = []
        for seed in (1, 2, 3):
            one(code, text, "word2vec", "skipgram", "negative-sampling", 1, 20, seed, 1, "", folder / "vectors")
            found.append(correlate(WordVectors.load(folder / "vectors"), pairs).spearman)
        means.append(statistics.mean(found))
    name = "WordSim-353 after WikiText-2 valid"
    return [row(name, "gensim", means[0], means[1], "rho", 0.6, less_is_better=False)]


def measure(quick: bool) -> list[Row]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        zipf = zipf_text(Path(folder) / "zipf.txt", 40_000 if quick else 1_500_000)
        rows = [counting(zipf, 1 if quick else 5), memory("Zipf", zipf, 0.7)]
        if not quick:
            rows.append(memory("400,000 words", many_words(Path(folder) / "many.txt", 400_000), 0.9))
        rows += speeds(zipf, quick)
        return rows if quick else rows + quality(Path(folder))


if __name__ == "__main__":
    main(__doc__ or "", measure)
