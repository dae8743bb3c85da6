"""What is a secret, and how a text is written without it.

A secret is

- the user and password of any URL, and the parameters of its query whose name looks like a secret's;
- the value of an option, a variable, a key or a header whose name looks like a secret's, however it is written:
  `--password x`, `--password=x`, `PGPASSWORD=x`, `password=x` in a DSN, `"password": "x"`, `X-Api-Key: x`;
- what follows `Authorization:` and `Cookie:`, and the words `Bearer` and `Basic`;
- the password in `-u user:password`, and where programs of databases take theirs (`redis-cli -a`, `mysql -p`, …);
- every value that `learn` has met in one of these places, wherever it comes up again: a command that fails may quote
  its own password. Values of fewer than four characters are hidden in their place alone, those of fewer than eight,
  or of letters alone, where they stand as a word.

A reference such as `$PGPASSWORD` says where a secret is, and stays. What is learnt holds for the process.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import unquote

MASK: Final = "***"

_Found = Callable[[str], None]
_T = TypeVar("_T")

_SECRET: Final = re.compile(
    "auth|authorization|bearer|cookie|credential|jwt|oauth|otp|pass|passcode|pwd|session|sessionid|sig|signature"
    "|.*(?:passwords?|passwd|passphrase|secret|token|sessid|credentials)"
    "|.*(?:api|access|private|secret|account)key"
)
_ABOUT_A_SECRET: Final = re.compile(
    "count|dir|directory|enabled|endpoint|expiry|file|folder|header|length|lifetime|limit|max|method|min|mode|name|path"
    "|policy|provider|size|store|timeout|ttl|type|uri|url"
)
"""Last words of names that say something about a secret and hold none: `--password-file`, `session_timeout`."""
_NEGATIONS: Final = frozenset({"no", "without", "skip", "disable"})
_NO_SECRETS: Final = frozenset({"true", "false", "none", "null", "basic", "digest", "bearer", "required"})
_SHORTEST: Final = 4
_SHORTEST_ANYWHERE: Final = 8
_SHORTEST_TOKEN: Final = 12

_NAME: Final = r"(?<![\w.-])-{0,2}[A-Za-z_][\w.-]{0,80}"
_IN_QUERY: Final = frozenset({"key", "code"})
_SCHEMES: Final = ("basic", "bearer", "digest", "token")

# Up to the last @ before the path; a password with a slash in it, which should be %2F, is seen too.
_USERINFO: Final = re.compile(
    r"""(?i)\b([a-z][a-z0-9+.-]{0,20}://)([^\s/?#'"<>`]{0,300}@|[^\s/?#@:\['"<>`]{0,80}:(?!\d{1,5}(?:[/?#\s]|$))[^\s'"<>`]{0,300}@)"""
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where secrets stand in a text: after `lead`, whose group `name`, if it has one, must look like a secret's."""

    lead: re.Pattern[str]
    value: re.Pattern[str]
    names: frozenset[str] = frozenset()

    def is_secret(self, match: re.Match[str]) -> bool:
        name = match.groupdict().get("name")
        return name is None or looks_secret(name) or name.lower() in self.names


# Lengths are bounded: whatever a command says must be redacted in no time.
# In the quotes of a shell, else up to a blank or a quote.
_WORD: Final = re.compile(r"""(?:'[^'\n]*'|"[^"\n]*")+[^\s'"]*|[^\s'"]+|['"]\S+""")
_TO_BLANK: Final = re.compile(r"""[^\s'"]+""")

_PLACES: Final = (
    _Place(re.compile(r"[?&#;](?P<name>[\w.\[\]-]+)="), re.compile(r"""[^&#\s'"]+"""), _IN_QUERY),
    _Place(re.compile(r"\b(?:redis-cli|valkey-cli)\b[^\n|;&]{0,200}?\s-a[ \t]+"), _WORD),
    _Place(re.compile(r"\bsshpass\b[^\n|;&]{0,200}?\s-p[ \t]*"), _WORD),
    _Place(re.compile(r"\b(?:mongo|mongosh|mongodump)\b[^\n|;&]{0,200}?\s-p[ \t]+"), _WORD),
    _Place(re.compile(r"\b(?:mysql|mariadb)(?:-?admin|-?dump)?\b[^\n|;&]{0,200}?\s-p"), _WORD),
    _Place(re.compile(r"\bldap(?:search|modify|whoami)\b[^\n|;&]{0,200}?\s-w[ \t]+"), _WORD),
    _Place(
        # Numbers are a user and a group, as in `docker run --user 1000:1000`.
        re.compile(
            r"""(?<!\S)(?:-u|-U|--user|--proxy-user)(?:[ \t]+|=)?['"]?(?!\d+:\d+(?:\s|$))[^\s:'"=-][^\s:'"]*:"""
        ),
        _TO_BLANK,
    ),
    _Place(
        re.compile(
            r"(?i)(?<![\w-])(?P<name>(?:proxy-)?authorization|(?:set-)?cookie|[a-z]{1,40}(?:-[a-z0-9]{1,40}){1,8})"
            r"[ \t]*:[ \t]*"
        ),
        re.compile(r"""[^\r\n'"]+"""),
    ),
    _Place(
        re.compile(r"""(["'])(?P<name>[A-Za-z_-][\w.-]{0,80})\1\s*[:,]\s*"""),
        re.compile(r"""'[^'\n]*'|"(?:[^"\\\n]|\\.)*"|[^\s,}\])'"]+"""),
    ),
    _Place(re.compile(rf"(?P<name>{_NAME})[ \t]*=[ \t]*(?!=)"), _WORD),
    _Place(re.compile(r"(?<![\w.-])(?P<name>--?[A-Za-z][\w.-]{0,80})[ \t]+(?!-)"), _WORD),
    _Place(re.compile(r"(?i)\b(?:bearer|basic)[ \t]+"), re.compile(r"(?=\S*\d)[\w.~+/=-]{6,}")),
)
_OF_PROGRAMS: Final = tuple(place for place in _PLACES if place.lead.pattern.startswith(r"\b"))

_known: set[str] = set()


def looks_secret(name: str) -> bool:
    """Return whether `name`, of an option, variable, key or header, is that of a secret.

    >>> [name for name in ("--password", "PGPASSWORD", "X-Api-Key", "accessToken") if not looks_secret(name)]
    []
    >>> [name for name in ("--author", "monkey", "maxTokens", "--password-file", "--no-pass") if looks_secret(name)]
    []
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[0-9]+", name)]
    if not words or _ABOUT_A_SECRET.fullmatch(words[-1]) or words[0] in _NEGATIONS:
        return False
    return any(_SECRET.fullmatch(word) for word in (*words, "".join(words)))


def redact(text: str) -> str:
    """Return `text` with `***` in the place of every secret; a text without one comes back as it is.

    >>> redact("curl -u me:hunter2 http://me:hunter2@db/x?token=1&page=2")
    'curl -u me:*** http://***@db/x?token=***&page=2'
    """
    return _settled(text, lambda text: _without_known(_marked(text, _ignore)))


def redact_command(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command, secrets hidden.

    >>> redact_command(["psql", "--password", "hunter2", "--host", "db"])
    ('psql', '--password', '***', '--host', 'db')
    """
    return _settled(tuple(argv), lambda argv: tuple(_without_known(word) for word in _marked_words(argv, _ignore)))


def redact_document(document: Any) -> Any:
    """Return a document of mappings, lists and scalars, secrets hidden; a list of texts is taken for a command."""
    match document:
        case str():
            return redact(document)
        case Mapping():
            return {key: _redacted_entry(str(key), value) for key, value in document.items()}
        case list() | tuple() if all(isinstance(part, str) for part in document):
            return type(document)(redact_command(document))
        case list() | tuple():
            return type(document)(redact_document(part) for part in document)
    return document


def learn(document: object) -> None:
    """Remember the secrets of a text, a command or a document, so that they are hidden wherever they come up."""
    left, seen = [document], set()
    while left:
        found = left.pop()
        # YAML may name one part many times, or within itself.
        if not isinstance(found, str) and id(found) in seen:
            continue
        seen.add(id(found))
        match found:
            case str():
                _marked(found, _remember)
            case Mapping():
                left += [value for key, value in found.items() if not _is_secret_entry(str(key), value)]
                for value in (value for key, value in found.items() if _is_secret_entry(str(key), value)):
                    _hidden(value, _remember)
            case list() | tuple() if all(isinstance(part, str) for part in found):
                list(_marked_words(found, _remember))
            case list() | tuple():
                left += found


def learn_environment(names: Iterable[str]) -> None:
    """Remember the values of environment variables as secrets; one that is not set holds none."""
    for name in names:
        _remember(os.environ.get(name, ""))


def _settled(value: _T, once: Callable[[_T], _T]) -> _T:
    """Return `value` taken through `once` until that changes nothing: a mask may bring another secret to light.

    It comes to an end, since each time something gives way to a mask.
    """
    while (shown := once(value)) != value:
        value = shown
    return value


def _ignore(value: str) -> None:
    """Take a secret that was found, and forget it."""


def _remember(value: str) -> None:
    for spelling in _spellings(value):
        if len(spelling) >= _SHORTEST and spelling.lower() not in _NO_SECRETS and any(map(str.isalnum, spelling)):
            _known.add(spelling)


def _spellings(value: str) -> Iterator[str]:
    """Yield how a secret may be written: as it is, decoded from a URL, in JSON, in single quotes of a shell."""
    for one in (value, unquote(value)):
        yield from (one, json.dumps(one)[1:-1], shlex.quote(one)[1:-1] if "'" in one else one)


def _without_known(text: str) -> str:
    return _pattern(frozenset(_known)).sub(MASK, text) if _known else text


@cache
def _pattern(values: frozenset[str]) -> re.Pattern[str]:
    longest_first = sorted(values, key=lambda value: (-len(value), value))
    return re.compile("|".join(map(_anywhere_or_word, longest_first)))


def _anywhere_or_word(value: str) -> str:
    quoted = re.escape(value)
    inside = len(value) >= _SHORTEST_ANYWHERE and not value.isalpha()
    return quoted if inside else rf"(?<!\w){quoted}(?!\w)"


# Texts


def _marked(text: str, found: _Found) -> str:
    """Return `text` with its secrets hidden by the rule; `found` is told each."""
    text = _USERINFO.sub(lambda match: match[1] + _userinfo(match[1], match[2][:-1], found) + "@", text)
    for place in _PLACES:
        text = _without(place, text, found)
    return text


def _without(place: _Place, text: str, found: _Found) -> str:
    parts, done, at = [], 0, 0
    while (lead := place.lead.search(text, at)) is not None:
        at = lead.end()
        if place.is_secret(lead) and (value := place.value.match(text, at)) is not None:
            parts += [text[done:at], _hidden(value[0], found)]
            done = at = value.end()
    return "".join([*parts, text[done:]])


def _hidden(value: str, found: _Found) -> str:
    """Return what stands in the place of `value`: the mask, or the value where it only says where the secret is."""
    bare = value.strip("'\"").strip()
    scheme, _, rest = bare.partition(" ")
    if not bare or _is_reference(bare) or bare.startswith(MASK) or rest.startswith(MASK):
        return value
    found(bare)
    if scheme.lower() not in _SCHEMES or not rest:
        return MASK
    found(rest.strip())
    return f"{scheme} {MASK}"


def _is_reference(value: str) -> bool:
    return re.fullmatch(r"\$(?:\w+|\{\w+\})|\$\(.*", value) is not None


def _userinfo(scheme: str, text: str, found: _Found) -> str:
    user, colon, password = text.partition(":")
    if _is_reference(password or user) or text in ("", MASK) or (scheme.lower() == "ssh://" and not colon):
        return text
    if password:
        found(password)
        found(b64encode(unquote(text).encode()).decode())  # as a header has it
    elif len(user) >= _SHORTEST_TOKEN and any(map(str.isdigit, user)):
        found(user)  # a token in the user's place
    return MASK


# Commands and documents


def _marked_words(argv: Sequence[str], found: _Found) -> Iterator[str]:
    before = ""
    for number, word in enumerate(argv):
        yield _marked_word(argv[:number], before, word, found)
        before = word


def _marked_word(earlier: Sequence[str], before: str, word: str, found: _Found) -> str:
    name, _, value = word.partition("=")
    if before.startswith("-") and "=" not in before and looks_secret(before) and not word.startswith("-"):
        return _hidden(word, found)
    if value and re.fullmatch(_NAME, name) and looks_secret(name):
        return f"{name}={_hidden(value, found)}"  # all of it: a word of a command may have blanks in it
    if before in ("-u", "-U", "--user", "--proxy-user") and not re.fullmatch(r"\d+:\d+", word):
        user, colon, password = word.partition(":")
        return f"{user}{colon}{_hidden(password, found)}"
    if length := _password_length(earlier, word):
        return word[:-length] + _hidden(word[-length:], found)
    return _marked(word, found)


def _password_length(earlier: Sequence[str], word: str) -> int:
    """Return how many characters at the end of `word` are a password in the place that a program has for it."""
    line = " ".join([*(part.rpartition("/")[2] for part in earlier), ""])
    leads = (lead for place in _OF_PROGRAMS for lead in place.lead.finditer(line + word))
    ends = (lead.end() for lead in leads if lead.start() < len(line) <= lead.end())
    return max((len(line + word) - end for end in ends), default=0)


def _is_secret_entry(key: str, value: object) -> bool:
    return isinstance(value, str) and looks_secret(key)


def _redacted_entry(key: str, value: Any) -> Any:
    return _without_known(_hidden(value, _ignore)) if _is_secret_entry(key, value) else redact_document(value)
