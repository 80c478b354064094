"""What points to a person - addresses, numbers of phones, accounts and cards - replaced by a placeholder.

Numbers are only taken for what they look like if their form says so: a checksum (IBAN: mod 97; cards: Luhn, with the
issuers' prefixes), a country prefix or the grouping of North America (phones), the dashes and barred ranges of a US social
security number. That misses some and keeps ordinary numbers. Names and street addresses are not found at all.

On addresses as datatrove's formatter, but for what is not followed: it replaces digits inside longer dotted numbers
(1.2.3.4.5), version numbers (v1.2.3.4), matrix products (`x@w.T`, a domain of one letter), misses an e-mail address that
follows a Chinese or accented letter, and knows no IPv6. Every finder is linear in the length of the text.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.corpus.documents import Document, Tally

KINDS = ("email", "ip", "phone", "iban", "card", "ssn")
PASSES = 8  # one and a look are the rule; a row of numbers that overlap in several readings takes a few
Span = tuple[int, int, str]  # from, to (exclusive), kind

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LOCAL_REVERSED = re.compile(rf"{_ATOM}+(?:\.{_ATOM}+)*")
_LOCAL_START = re.compile(r"[A-Za-z0-9_]")
LONGEST_LOCAL = 64  # RFC 5321; also what keeps a million letters before an @ from being read again and again
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(
    rf"(?:{_LABEL}\.)+(?=[A-Za-z0-9-]*[A-Za-z]){_LABEL}(?<=[^.].)|\[[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}]"
)


def emails(text: str) -> Iterator[Span]:
    """From each @ outwards: the domain to its right, the longest local part to its left, without leading signs."""
    done = 0
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        if domain:
            local = _LOCAL_REVERSED.match(text[max(done, at - LONGEST_LOCAL) : at][::-1])
            start = _LOCAL_START.search(text, at - local.end(), at) if local else None
            if start:
                done = domain.end()
                yield start.start(), done, "email"
        at = text.find("@", max(at + 1, done))


_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r"[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,35}(?!\w)")  # 2000::/3 is all the public space there is
_INSIDE = re.compile(r"[\w.:]")


def ip_addresses(text: str) -> Iterator[Span]:
    """Public IPv4 and IPv6 addresses; private and reserved ones (127.0.0.1, 10.*, 2001:db8::) say nothing of anybody."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            address = match[0] if match[0].endswith("::") else match[0].rstrip(":")
            before = text[match.start() - 1 : match.start()]
            if _INSIDE.match(before):
                continue
            try:
                public = ipaddress.ip_address(address).is_global
            except ValueError:
                continue
            if public:
                yield match.start(), match.start() + len(address), "ip"


# Length of an IBAN by country (SWIFT's registry).
_IBAN_LENGTHS = {
    item[:2]: int(item[2:])
    for item in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 "
        "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 "
        "LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 "
        "SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    ).split()
}
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?<![A-Za-z0-9]....)(?= ?[A-Z0-9])")
_IBAN_CHARACTER = re.compile(r" ?([A-Z0-9])")


def ibans(text: str) -> Iterator[Span]:
    """International bank account numbers, in one piece or in groups, of the right length and with the right checksum."""
    for match in _IBAN.finditer(text):
        account, end = match[0], match.end()
        while len(account) < _IBAN_LENGTHS.get(account[:2], 0):
            following = _IBAN_CHARACTER.match(text, end)
            if not following:
                break
            account += following[1]
            end = following.end()
        else:
            digits = "".join(str(int(c, 36)) for c in account[4:] + account[:4])
            if len(account) > 4 and int(digits) % 97 == 1 and not text[end : end + 1].isalnum():
                yield match.start(), end, "iban"


# Eight digits or more with at most three separators between two; what it is, the patterns below decide inside it.
_NUMBER = re.compile(r"[0-9](?<!\w.)(?:[ .()/-]{0,3}[0-9]){7,}+(?!\w)")
_CARD = re.compile(
    r"(?<![0-9])(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})(?![0-9])"
)
_ISSUER = re.compile(  # Visa, Mastercard (two ranges), American Express, Diners, JCB, Discover, UnionPay
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}|"
    r"3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12}|"
    r"62[0-9]{14,17}"
)
_SSN = re.compile(r"(?<![0-9-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])")
_NORTH_AMERICA = re.compile(
    r"(?<![0-9.-])(?:1[ .-]?)?(?:\(?[2-9][0-9]{2}\)[ .-]?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}(?![0-9-]|\.[0-9])"
)
_PHONE_DIGITS = range(8, 16)  # E.164: fifteen at most, with the country's


def numbers(text: str) -> Iterator[Span]:
    """Cards, US social security numbers, and phone numbers (international with +, or grouped as in North America)."""
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        plus = text[start - 1 : start] == "+" and not text[max(start - 2, 0) : start - 1].isalnum()
        if plus and sum(map(str.isdigit, match[0])) in _PHONE_DIGITS:
            yield start - 1, end, "phone"
            continue
        for card in _CARD.finditer(text, start, end):
            digits = re.sub(r"[ -]", "", card[0])
            if _ISSUER.fullmatch(digits) and luhn(digits):
                yield *card.span(), "card"
        for ssn in _SSN.finditer(text, start, end):
            yield *ssn.span(), "ssn"
        for phone in _NORTH_AMERICA.finditer(text, start, end):
            opened = text[phone.start() - 1 : phone.start()] == "(" and ")" in phone[0]
            yield phone.start() - opened, phone.end(), "phone"


def luhn(digits: str) -> bool:
    """The checksum of card numbers: every second digit from the right doubled, the sum of all digits divisible by ten.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    return sum(doubled[int(d)] if i % 2 else int(d) for i, d in enumerate(reversed(digits))) % 10 == 0


_FINDERS = ((emails, {"email"}), (ibans, {"iban"}), (ip_addresses, {"ip"}), (numbers, {"phone", "card", "ssn"}))


@dataclass(frozen=True)
class PII:
    """Replacements are counted by kind (pii/email, ...); no document is dropped."""

    name: ClassVar[str] = "pii"
    kinds: tuple[str, ...] = option(KINDS, "what to replace")
    placeholder: str = option("<{kind}>", "what to put there; {kind} stands for the kind")

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError(f"pii.kinds: {kind!r} is unknown; choose from {', '.join(KINDS)}")
            shown = self.placeholder.replace("{kind}", kind)
            if self._find(shown):
                raise UserError(f"pii.placeholder: {shown!r} would itself be taken for personal data; choose another")

    def __call__(self, document: Document, tally: Tally) -> Document | None:
        text, counts = self.redact(document.text)
        for kind, times in counts.items():
            tally.change(f"pii/{kind}", times)
        return replace(document, text=text) if counts else document

    def redact(self, text: str) -> tuple[str, Counter[str]]:
        """The text with placeholders, and how many of each kind were put in.

        Of two that overlap the first one counts; then the text is read again, for what the other has become.
        """
        counts: Counter[str] = Counter()
        for _ in range(PASSES):
            spans = self._find(text)
            if not spans:
                break
            pieces, done = [], 0
            for start, end, kind in spans:
                if start >= done:
                    pieces += [text[done:start], self.placeholder.replace("{kind}", kind)]
                    done = end
                    counts[kind] += 1
            text = "".join([*pieces, text[done:]])
        return text, counts

    def _find(self, text: str) -> list[Span]:
        wanted = set(self.kinds)
        found = [s for finder, kinds in _FINDERS if kinds & wanted for s in finder(text) if s[2] in wanted]
        return sorted(found, key=lambda span: (span[0], -span[1]))
