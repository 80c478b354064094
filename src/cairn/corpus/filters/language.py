"""Which language a text is in, by py3langid: a naive Bayes classifier over byte n-grams that ships its model.

Its probabilities (`norm_probs`) divide the log score by the square root of the length, which makes them behave: prose of
100 characters scores above .9, of 20 characters around .2, and a few signs of nothing in particular 1/140. So FineWeb's
threshold of .65, set for fastText, also turns away what is too short to tell. Close relatives (Norwegian's two forms,
Malay and Indonesian, Serbian, Croatian and Bosnian) share the probability; programs come out as any language.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Tally


@functools.cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError("telling languages apart needs py3langid: pip install 'cairn[corpus]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(text: str, sample: int = 450) -> tuple[str, float]:
    """(ISO 639 code, probability) of the likeliest of 140 languages; ("und", 0.0) where there is no letter.

    Of a long text a third of `sample` characters from the start, the middle and the end are looked at: pages often
    begin with a menu in another language.
    """
    if len(text) > sample:
        part = max(sample // 3, 1)
        middle = (len(text) - part) // 2
        text = f"{text[:part]} {text[middle : middle + part]} {text[-part:]}"
    if not any(c.isalpha() for c in text):
        return "und", 0.0
    language, score = _identifier().classify(text)
    return language, float(score)


@dataclass(frozen=True)
class Language:
    """Keeps texts in the languages asked for and notes the language and its score in the document's meta."""

    name: ClassVar[str] = "language"
    languages: tuple[str, ...] = option((), "languages to keep (ISO 639: en, de, zh, ...); empty: all of them")
    min_score: float = option(0.65, "a text must score above this (FineWeb)", minimum=0.0)
    sample: int = option(450, "characters looked at: from start, middle and end", minimum=30)

    def __post_init__(self) -> None:
        # The model takes half a second to load, so only a setting that can be wrong is held against it.
        known = set(_identifier().labels) if self.languages else set()
        for language in self.languages:
            if language not in known:
                raise UserError(
                    f"language.languages: {language!r} is not among those told apart: {', '.join(sorted(known))}"
                )

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        language, score = identify(document.text, self.sample)
        if language == "und":
            tally.drop("language/no-letters", document)
        elif score <= self.min_score:
            tally.drop("language/uncertain", document)
        elif self.languages and language not in self.languages:
            tally.drop("language/other", document)
        else:
            meta = document.meta | {"language": language, "language_score": f"{score:.4f}"}
            return replace(document, meta=meta)
        return None
