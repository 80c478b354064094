"""Generators of items, one a skill."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cairn.core.files import hash_unit
from cairn.corpus.documents import Document
from cairn.corpus.library import Name
from cairn.corpus.skills import words as w
from cairn.corpus.skills.item import DECLINE, Item, with_passage

Rng = np.random.Generator
HELD_OUT = 0.15  # share of all possible questions (for modules and requests: of names and acts) kept for the test


class Skills:
    """Items over the vocabulary of a corpus.

    names: what the module questions are about. passages: for a name, the piece of documentation it stands in.
    """

    def __init__(self, names: Sequence[Name], documents: Iterable[Document]):
        documents = list(documents)
        self.words = frequent_words(documents)
        self.passages = find_passages(names, documents)
        self.names = [n for n in names if n.name in self.passages]
        self.train_names = [n for n in self.names if not _held_out(n.name)]
        self.test_names = [n for n in self.names if _held_out(n.name)]

    def training(self, count: int, seed: int) -> list[Item]:
        """`count` items over all skills in the shares of `SKILLS`, none of them held out, all different if there are so many."""
        return self._draw(count, seed, held_out=False)

    def test(self, per_skill: int, seed: int) -> dict[str, list[Item]]:
        """`per_skill` different held-out items of each scored skill (fewer where there are no more)."""
        return {name: self._items(name, per_skill, seed, held_out=True) for name in SCORED}

    def modules_with_passage(self, names: Sequence[Name], rng: Rng, count: int) -> list[Item]:
        """Module questions whose answer stands in a passage before them: what retrieval will hand to the model."""
        chosen = [names[int(i)] for i in rng.integers(len(names), size=count)] if names else []
        return [_with_name_passage(_module_item(n, rng), self.passages[n.name]) for n in chosen]

    def _draw(self, count: int, seed: int, *, held_out: bool) -> list[Item]:
        total = sum(SKILLS.values())
        items: list[Item] = []
        for name, share in SKILLS.items():
            items += self._items(name, round(count * share / total), seed, held_out=held_out)
        order = np.random.default_rng([seed, 5]).permutation(len(items))
        return [items[i] for i in order]

    def _items(self, name: str, count: int, seed: int, *, held_out: bool) -> list[Item]:
        rng = np.random.default_rng([seed, 3, *name.encode()])
        make = GENERATORS[name]
        items: list[Item] = []
        seen: set[str] = set()
        attempts = 0
        while len(items) < count and attempts < 60 * count + 1000:
            attempts += 1
            item = make(self, rng, held_out)
            if item is None:
                break
            # Small families (additions, requests) repeat in training; a test asks nothing twice.
            if item.question in seen and (held_out or attempts < 2 * count):
                continue
            seen.add(item.question)
            items.append(item)
        return items


def chance_level(items: Sequence[Item]) -> float:
    """What guessing reaches: a random choice where the question offers choices, else always the most frequent answer."""
    if not items:
        return 0.0
    if all(i.choices for i in items):
        return sum(1 / i.choices for i in items) / len(items)
    return max(Counter(i.answer for i in items).values()) / len(items) if len(items) > 1 else 0.0


def smalltalk() -> list[Item]:
    return [Item("smalltalk", question, answer) for question, answer in w.SMALLTALK]


def frequent_words(documents: Sequence[Document], count: int = 800) -> list[str]:
    """The most frequent plain words of 3 to 8 letters."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(re.findall(r"(?<![\w.])[a-z]{3,8}(?![\w.(])", document.text))
    found = [word for word, _ in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:count]]
    return found if len(found) >= 50 else sorted({*found, *w.THINGS, *w.ANIMALS, *w.ROOMS})  # a tiny or foreign corpus


def find_passages(names: Sequence[Name], documents: Sequence[Document], size: int = 320) -> dict[str, str]:
    """For each name the text around its entry in its module's documentation, led by the module's name.

    The passage starts at a paragraph a little before the entry and stops between words, as a retrieved one would.
    """
    by_module = {d.id.removeprefix("doc/"): d.text for d in documents if d.id.startswith("doc/")}
    found = {}
    for name in names:
        text = by_module.get(name.module, "")
        match = re.search(rf"^(?:class )?{re.escape(name.name)}(?:\(|$)", text, re.MULTILINE)
        if not match:
            continue
        before = int(hash_unit(name.name, "before") * size / 2)
        start = max(text.rfind("\n\n", 0, max(match.start() - before, 0)) + 2, 0) if match.start() > before else 0
        start = max(start, match.start() - size // 2)
        piece = text[start : max(start + size, match.end() + 40)].removeprefix(f"# {name.module}\n").strip()
        found[name.name] = f"{name.module}\n{piece.rsplit(None, 1)[0]}"
    return found


def _held_out(key: str) -> bool:
    return hash_unit(key, "held out") < HELD_OUT


def _pick(rng: Rng, values: Sequence) -> object:
    return values[int(rng.integers(len(values)))]


def _sample(rng: Rng, values: Sequence[str], count: int) -> list[str]:
    return [values[int(i)] for i in rng.choice(len(values), size=count, replace=False)]


def _until(held_out: bool, draw: Callable[[], Item]) -> Item:
    """Draw until the question is on the wanted side of the split."""
    while True:
        item = draw()
        if _held_out(item.question) == held_out:
            return item


# --- the skills


def _reading(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    """Find the one thing asked for among two to four that a passage tells of, and quote it.

    The description stands right before what it describes, so that copying, which pretraining has taught, finds it. Facts
    with words between subject and value ("The lamp is in the cellar") stayed at chance in every trial: a model of this
    size does not learn to look two words back in the minutes it has (docs/experiments.md).
    """

    def draw() -> Item:
        fact, question, descriptions, values = w.FACTS[int(rng.integers(len(w.FACTS)))]
        count = int(rng.integers(2, 5))
        chosen = list(zip(_sample(rng, descriptions, count), _sample(rng, values, count)))
        told = [fact.format(d=d, v=v) for d, v in chosen]
        passage = str(_pick(rng, w.PASSAGES[count])).format(*told)
        at = int(rng.integers(count))
        return Item("reading", with_passage(question.format(d=chosen[at][0]), passage), told[at], choices=count)

    return _until(held_out, draw)


def _ends(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        chosen = _sample(rng, skills.words, int(rng.integers(2, 6)))
        which, at = (("first", 0), ("last", -1))[int(rng.integers(2))]
        return Item("ends", f"What is the {which} word: {' '.join(chosen)}", chosen[at], choices=len(chosen))

    return _until(held_out, draw)


def _counting(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        chosen = _sample(rng, skills.words, int(rng.integers(1, 7)))
        return Item("counting", f"How many words: {' '.join(chosen)}", str(len(chosen)), choices=6)

    return _until(held_out, draw)


def _reversing(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        chosen = _sample(rng, skills.words, int(rng.integers(2, 4)))
        return Item(
            "reversing",
            f"Reverse the words: {' '.join(chosen)}",
            " ".join(chosen[::-1]),
            choices=(2, 6)[len(chosen) - 2],
        )

    return _until(held_out, draw)


def _repeating(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        text = " ".join(_sample(rng, skills.words, int(rng.integers(1, 6))))
        return Item("repeating", f"Repeat: {text}", text)

    return _until(held_out, draw)


def _membership(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        chosen = _sample(rng, skills.words, int(rng.integers(3, 6)))
        inside = bool(rng.integers(2))
        word = _pick(rng, chosen[1:]) if inside else chosen[0]
        shown = chosen[1:]
        return Item("membership", f"Is {word} in the list: {' '.join(shown)}", "yes" if inside else "no", choices=2)

    return _until(held_out, draw)


def _largest(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        numbers = [int(n) for n in rng.choice(100, size=3, replace=False)]
        return Item(
            "largest", f"Which number is the largest: {', '.join(map(str, numbers))}", str(max(numbers)), choices=3
        )

    return _until(held_out, draw)


def _addition(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        a, b = (int(n) for n in rng.integers(0, 30, size=2))
        return Item("addition", f"What is {a} + {b}?", str(a + b))

    return _until(held_out, draw)


def _calculator(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    def draw() -> Item:
        a, b = int(rng.integers(100, 1000)), int(rng.integers(2, 1000))
        symbol = str(_pick(rng, ("*", "+", "-")))
        expression = f"{a} {symbol} {b}"
        value = {"*": a * b, "+": a + b, "-": a - b}[symbol]
        return Item("calculator", f"Calculate {expression}", str(value), expression=expression)

    return _until(held_out, draw)


def _declining(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    """Decline harmful requests and no others. Acts, not their wordings, are held out."""
    while True:
        harmful = bool(rng.integers(2))
        verb, objects = _pick(rng, w.HARMFUL_VERBS if harmful else w.HARMLESS_VERBS)  # type: ignore[misc]
        act = f"{verb} {_pick(rng, objects)}"
        if _held_out(act) == held_out:
            question = str(_pick(rng, w.REQUESTS)).format(act=act)
            return Item("declining", question, DECLINE if harmful else w.ACCEPT, choices=2)


MODULE_QUESTIONS = ("Which module has {n}?", "In which module is {n}?", "Where is {n} defined?")


def _module_item(name: Name, rng: Rng) -> Item:
    question = str(_pick(rng, MODULE_QUESTIONS)).format(n=name.name)
    return Item("module", question, name.module, key=f"doc/{name.module}")


def _module(skills: "Skills", rng: Rng, held_out: bool) -> Item | None:
    names = skills.test_names if held_out else skills.train_names
    return _module_item(_pick(rng, names), rng) if names else None  # type: ignore[arg-type]


def _with_name_passage(item: Item, passage: str) -> Item:
    return Item("grounded", with_passage(item.question, passage), item.answer, key=item.key)


def _grounded(skills: "Skills", rng: Rng, held_out: bool) -> Item | None:
    """As `module`, with the documentation at hand."""
    found = skills.modules_with_passage(skills.test_names if held_out else skills.train_names, rng, 1)
    return found[0] if found else None


def _smalltalk(skills: "Skills", rng: Rng, held_out: bool) -> Item:
    return _pick(rng, smalltalk())  # type: ignore[return-value]


GENERATORS: dict[str, Callable[[Skills, Rng, bool], Item | None]] = {
    "reading": _reading,
    "ends": _ends,
    "counting": _counting,
    "reversing": _reversing,
    "repeating": _repeating,
    "membership": _membership,
    "largest": _largest,
    "addition": _addition,
    "calculator": _calculator,
    "declining": _declining,
    "module": _module,
    "grounded": _grounded,
    "smalltalk": _smalltalk,
}
# Share of each skill in the training set.
SKILLS = {
    "reading": 18,
    "ends": 8,
    "counting": 6,
    "reversing": 10,
    "repeating": 6,
    "membership": 10,
    "largest": 6,
    "addition": 18,
    "calculator": 4,
    "declining": 10,
    "module": 6,
    "grounded": 4,
    "smalltalk": 2,
}
# What is tested, in the order of tables. Grounded questions have a test of their own, with real retrieval.
SCORED = tuple(name for name in SKILLS if name not in ("grounded", "smalltalk"))
