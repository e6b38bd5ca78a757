"""A shell script into words and operators, by the shell's own rules of quoting.

POSIX.1-2024, Shell Command Language, 2.2 (quoting), 2.3 (token recognition) and 2.7.4
(here-documents), with bash's ``$'...'``, ``&>`` and ``<<<``. Text that no shell would accept
(an open quote) is read to its end: a reader of other people's manifests never raises.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec


class Part(NamedTuple):
    """A piece of a word. ``kind`` is ``text``, ``param`` (``$x``, ``${...}``) or ``command``.

    ``command`` is the script of ``$(...)`` or backticks; ``arithmetic`` is the text of
    ``$((...))``. ``quoted`` keeps a value from being split at blanks.
    """

    kind: str
    text: str
    quoted: bool


Word = tuple[Part, ...]


class Token(msgspec.Struct, gc=False):
    """A word, or an operator (``word`` is empty). Offsets tell which tokens touch each other.

    ``text`` is the operator, or the word where it is plain text without quotes, else ``""``.
    ``body`` is the text of a here-document, kept at its ``<<`` operator. ``number`` is the file
    descriptor in front of a redirection, ``""`` without one.
    """

    text: str
    start: int
    end: int
    word: Word = ()
    body: Word | None = None
    number: str = ""

    @property
    def is_operator(self) -> bool:
        """Tell operators from words."""
        return not self.word


_SKIP = re.compile(r"(?:[ \t\r]+|\\\n)+")
_OPERATOR = re.compile(
    r"(?:\d+(?=[<>]))?(?:&>>|&>|<<<|<<-|<<|<&|>&|>\||>>|<>|<|>)|&&|\|\||\|&|;;&|;&|;;|[&|;()\n]"
)
_PLAIN = re.compile(r"[^ \t\r\n\\'\"$`&|;()<>]+")
_IN_DOUBLE = re.compile(r"[^\"\\$`]+")
_IN_HEREDOC = re.compile(r"[^\\$`]+")
_IN_FRAGMENT = re.compile(r"[^\\'\"$`]+")
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]", re.ASCII)
_NESTED = re.compile(r"\\.|\$\(|\$\{|(?<=[\s;(])#|['\"`(){}]", re.DOTALL)
_ANSI_TEXT = re.compile(r"(?:[^'\\]+|\\.)*+", re.DOTALL)
_ANSI_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ANSI = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "e": "\x1b"}


def tokens(script: str) -> list[Token]:
    """Return the words and operators of a script; comments and line continuations are gone."""
    return _Lexer(script).run()


def fragment(text: str, *, quoted: bool = False) -> Word:
    """Read the inside of ``${x:-...}``: text with variables and quotes, blanks included.

    ``quoted`` where it stands in double quotes, in which a single quote is itself.
    """
    return _Lexer(text).fragment(quoted=quoted)


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._tokens: list[Token] = []
        self._heredocs: list[int] = []  # `<<` tokens whose body comes after this line

    def run(self) -> list[Token]:
        text, end = self._text, len(self._text)
        while True:
            skipped = _SKIP.match(text, self._at)
            if skipped:
                self._at = skipped.end()
            if self._at >= end:
                return self._tokens
            if text[self._at] == "#":
                newline = text.find("\n", self._at)
                self._at = newline if newline >= 0 else end
                continue
            operator = _OPERATOR.match(text, self._at)
            if operator:
                self._operator(operator)
            else:
                self._word()

    def _operator(self, found: re.Match[str]) -> None:
        operator = found[0].lstrip("0123456789")
        number = found[0].removesuffix(operator)
        token = Token(operator, found.start(), found.end(), number=number)
        self._tokens.append(token)
        self._at = found.end()
        if token.text in {"<<", "<<-"}:
            self._heredocs.append(len(self._tokens) - 1)
        elif token.text == "\n" and self._heredocs:
            self._read_heredocs()

    def _word(self) -> None:
        start, text = self._at, self._text
        plain = _PLAIN.match(text, start)
        if plain and (plain.end() == len(text) or text[plain.end()] not in "\\'\"$`"):
            self._at = plain.end()
            parts: Word = (Part("text", plain[0], quoted=False),)
            self._tokens.append(Token(plain[0], start, self._at, parts))
            return
        parts = self._parts()
        self._tokens.append(Token("", start, self._at, parts))

    def _parts(self) -> Word:
        """Read one word whose first character is neither blank nor operator."""
        text, end, parts = self._text, len(self._text), list[Part]()
        while self._at < end:
            char = text[self._at]
            plain = _PLAIN.match(text, self._at)
            if plain:
                parts.append(Part("text", plain[0], quoted=False))
                self._at = plain.end()
            elif char == "\\":
                if text[self._at + 1 : self._at + 2] != "\n":
                    parts.append(Part("text", text[self._at + 1 : self._at + 2], quoted=True))
                self._at += 2
            elif char == "'":
                self._at += 1
                parts.append(Part("text", self._until("'"), quoted=True))
            elif char == '"':
                self._at += 1
                parts.extend(self.inside('"'))
            elif char in "$`":
                parts.append(self._dollar(quoted=False))
            else:
                break
        return tuple(parts) or (Part("text", "", quoted=True),)

    def inside(self, closing: str | None) -> Word:
        """Read double-quoted text up to its quote, or without one to the end of the text."""
        text, end, quoted = self._text, len(self._text), closing is not None
        plain = _IN_DOUBLE if quoted else _IN_HEREDOC
        parts = [Part("text", "", quoted=quoted)]
        while self._at < end:
            char = text[self._at]
            found = plain.match(text, self._at)
            if found:
                parts.append(Part("text", found[0], quoted=quoted))
                self._at = found.end()
            elif char == closing:
                self._at += 1
                break
            elif char == "\\":
                following = text[self._at + 1 : self._at + 2]
                if following != "\n":
                    escaped = following in set("$`\\") or following == closing
                    kept = following if escaped else "\\" + following
                    parts.append(Part("text", kept, quoted=True))
                self._at += 2
            else:
                parts.append(self._dollar(quoted=quoted))
        return tuple(parts)

    def fragment(self, *, quoted: bool) -> Word:
        """Read all of the text as one word, blanks and operators included."""
        text, end = self._text, len(self._text)
        parts = [Part("text", "", quoted=True)] if quoted else []
        while self._at < end:
            char = text[self._at]
            plain = _IN_FRAGMENT.match(text, self._at)
            if plain:
                parts.append(Part("text", plain[0], quoted=quoted))
                self._at = plain.end()
            elif char == "\\":
                following = text[self._at + 1 : self._at + 2]
                keeps = quoted and following not in set('$`"\\}')
                parts.append(Part("text", "\\" + following if keeps else following, quoted=True))
                self._at += 2
            elif char == '"':
                self._at += 1
                parts.extend(self.inside('"'))
            elif char == "'":
                self._at += 1
                parts.append(Part("text", "'" if quoted else self._until("'"), quoted=True))
            else:
                parts.append(self._dollar(quoted=quoted))
        return tuple(parts)

    def _dollar(self, *, quoted: bool) -> Part:
        text, start = self._text, self._at
        if text[start] == "`":
            self._at += 1
            return Part("command", self._until("`"), quoted)
        following = text[start + 1 : start + 2]
        if following == "(":
            return self._nested(start + 2, ")", quoted=quoted)
        if following == "{":
            return self._nested(start + 2, "}", quoted=quoted)
        if following == "'" and not quoted:
            self._at = start + 2
            return Part("text", self._ansi(), quoted=True)
        name = _NAME.match(text, start + 1)
        if name:
            self._at = name.end()
            return Part("param", name[0], quoted)
        self._at = start + 1
        return Part("text", "" if following == '"' and not quoted else "$", quoted)

    def _nested(self, start: int, closing: str, *, quoted: bool) -> Part:
        end = _closing(self._text, start, closing, quoted=quoted)
        self._at = min(end + 1, len(self._text))
        inner = self._text[start:end]
        if closing == "}":
            return Part("param", inner, quoted)
        if inner.startswith("(") and inner.endswith(")"):
            return Part("arithmetic", inner[1:-1], quoted)
        return Part("command", inner, quoted)

    def _until(self, closing: str) -> str:
        start = self._at
        end = self._text.find(closing, start)
        end = len(self._text) if end < 0 else end
        self._at = min(end + 1, len(self._text))
        return self._text[start:end]

    def _ansi(self) -> str:
        found = _ANSI_TEXT.match(self._text, self._at)
        assert found is not None
        self._at = min(found.end() + 1, len(self._text))
        return _ANSI_ESCAPE.sub(lambda match: _ANSI.get(match[1], match[1]), found[0])

    def _read_heredocs(self) -> None:
        for index in self._heredocs:
            operator, delimiter = self._tokens[index], self._tokens[index + 1].word
            if not delimiter:
                continue
            ending = "".join(part.text for part in delimiter)
            body = self._heredoc(ending, tabs=operator.text == "<<-")
            if any(part.quoted for part in delimiter):
                operator.body = (Part("text", body, quoted=True),)
            else:
                operator.body = _Lexer(body).inside(None)
        self._heredocs.clear()

    def _heredoc(self, delimiter: str, *, tabs: bool) -> str:
        lines: list[str] = []
        while self._at < len(self._text):
            end = self._text.find("\n", self._at)
            end = len(self._text) if end < 0 else end
            line = self._text[self._at : end]
            self._at = min(end + 1, len(self._text))
            line = line.lstrip("\t") if tabs else line
            if line.rstrip("\r") == delimiter:
                break
            lines.append(line + "\n")
        return "".join(lines)


def _closing(text: str, at: int, closing: str, *, quoted: bool) -> int:
    """Return where the bracket that was opened before ``at`` is closed, else the text's end."""
    open_brackets, open_quotes = [closing], int(quoted)
    while open_brackets:
        found = _NESTED.search(text, at)
        if not found:
            return len(text)
        at, mark, inner = found.end(), found[0], open_brackets[-1]
        if mark == inner:
            open_quotes -= inner == '"'
            open_brackets.pop()
        elif mark in {"$(", "${"}:
            open_brackets.append(")" if mark == "$(" else "}")
        elif mark == "`" or (mark == "'" and (inner == ")" or not open_quotes)):
            at = text.find(mark, at) + 1 or len(text)
        elif mark == '"':
            open_brackets.append('"')
            open_quotes += 1
        elif mark == "(" and inner == ")":
            open_brackets.append(")")
        elif mark == "#" and inner == ")":
            at = text.find("\n", at) + 1 or len(text)
    return at - 1
