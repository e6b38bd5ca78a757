"""A shell script's grammar: words and operators into commands, loops, branches and functions.

POSIX.1-2024, Shell Command Language, 2.9 and 2.10, with bash's ``[[ ]]``, ``(( ))``, arrays and
``function``. Whatever does not fit the grammar is skipped, so that the commands around it are
still seen. Nesting deeper than any person writes ends the reading.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from extender.workload.shell_words import Part, Token, Word, tokens

DEEPEST = 40
"""Compound commands within each other."""


class Assignment(NamedTuple):
    """``name=value``, ``name[key]=value``, ``name+=value`` or ``name=(a b [key]=c)``."""

    name: str
    key: str | None
    value: Word | tuple[Word, ...]
    is_array: bool = False
    appends: bool = False


class Redirect(NamedTuple):
    """``number`` is the file descriptor, ``""`` without one; ``body`` a here-document's text."""

    operator: str
    target: Word
    body: Word | None
    number: str = ""


class Node(msgspec.Struct, frozen=True):
    """Anything that runs."""


Sequence = tuple[Node, ...]


class Simple(Node, frozen=True):
    """Assignments, then a program's words."""

    assignments: tuple[Assignment, ...] = ()
    words: tuple[Word, ...] = ()
    redirects: tuple[Redirect, ...] = ()


class Pipeline(Node, frozen=True):
    """``a | b | c``."""

    commands: Sequence


class AndOr(Node, frozen=True):
    """``first && second || third``: each of ``rest`` with the operator before it."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


class Background(Node, frozen=True):
    """``first &``: the script goes on beside it."""

    node: Node


class If(Node, frozen=True):
    """``if`` and its ``elif``s: a condition and what follows from it each."""

    branches: tuple[tuple[Sequence, Sequence], ...]
    otherwise: Sequence


class Loop(Node, frozen=True):
    """``while`` and ``until``."""

    condition: Sequence
    body: Sequence
    redirects: tuple[Redirect, ...]


class For(Node, frozen=True):
    """``for name in words``; ``words`` is None for the script's own arguments."""

    name: str
    words: tuple[Word, ...] | None
    body: Sequence


class Case(Node, frozen=True):
    """``case word in pattern) ... esac``."""

    word: Word
    items: tuple[tuple[tuple[Word, ...], Sequence], ...]


class Group(Node, frozen=True):
    """``{ ...; }``, or ``( ... )`` whose variables and directory stay inside."""

    body: Sequence
    subshell: bool
    redirects: tuple[Redirect, ...] = ()


class Function(Node, frozen=True):
    """``name() { ...; }``."""

    name: str
    body: Node


class _TooDeepError(Exception):
    """More compound commands within each other than we read."""


_REDIRECTS = frozenset({"<", ">", ">>", ">|", "<>", "<&", ">&", "&>", "&>>", "<<", "<<-", "<<<"})
_CLOSING = frozenset({"then", "elif", "else", "fi", "do", "done", "esac", "}", ")"})
_CASE_ENDS = frozenset({";;", ";&", ";;&"})
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[([^\]=]*)\])?(\+?)=", re.ASCII)
_KEYED = re.compile(r"\[([^\]=]*)\]=")
_NAME = re.compile(r"[\w.:@/-]+")


def parse(script: str) -> tuple[Sequence, bool]:
    """Return what a script runs, and whether all of it was read."""
    parser = _Parser(tokens(script))
    nodes: list[Node] = []
    try:
        while not parser.at_end():
            nodes.extend(parser.sequence(frozenset()))
            parser.advance()  # a closing word that nothing opened
    except _TooDeepError:
        return (*nodes, *parser.finished), False
    return tuple(nodes), True


def assignment(word: Word) -> Assignment | None:
    """Read ``name=value``; None where the word is none."""
    head = word[0]
    found = None if head.quoted or head.kind != "text" else _ASSIGNMENT.match(head.text)
    if found is None:
        return None
    rest = (Part("text", head.text[found.end() :], quoted=False), *word[1:])
    return Assignment(found[1], found[2], rest, appends=bool(found[3]))


class _Parser:
    def __init__(self, read: list[Token]) -> None:
        self._tokens = read
        self._at = 0
        self._depth = 0
        self.finished: list[Node] = []  # what the outermost sequence holds so far

    def at_end(self) -> bool:
        return self._at >= len(self._tokens)

    def advance(self) -> None:
        self._at += 1

    def _peek(self) -> str:
        """Return the next token's text; a word that is not plain is a space, the end is empty."""
        return (self._tokens[self._at].text or " ") if self._at < len(self._tokens) else ""

    def _take(self, *texts: str) -> bool:
        if not self.at_end() and self._tokens[self._at].text in texts:
            self._at += 1
            return True
        return False

    def _skip_newlines(self) -> None:
        while self._take("\n"):
            pass

    def sequence(self, ends: frozenset[str]) -> Sequence:
        """Read commands up to a closing word, and leave that to the caller."""
        nodes: list[Node] = []
        if self._depth == 0:
            self.finished = nodes
        while not self.at_end():
            if self._take("\n", ";", "&"):
                continue
            if self._peek() in ends or self._peek() in _CLOSING or self._peek() in _CASE_ENDS:
                break
            node = self._and_or()
            if node is not None:
                nodes.append(Background(node) if self._peek() == "&" else node)
        return tuple(nodes)

    def _and_or(self) -> Node | None:
        first = self._pipeline()
        rest: list[tuple[str, Node]] = []
        while self._peek() in {"&&", "||"}:
            operator = self._peek()
            self._at += 1
            self._skip_newlines()
            node = self._pipeline()
            if node is not None:
                rest.append((operator, node))
        if first is None or not rest:
            return first
        return AndOr(first, tuple(rest))

    def _pipeline(self) -> Node | None:
        while self._take("!"):
            pass
        nodes = [self._command()]
        while self._take("|", "|&"):
            self._skip_newlines()
            nodes.append(self._command())
        commands = tuple(node for node in nodes if node is not None)
        if len(commands) > 1:
            return Pipeline(commands)
        return commands[0] if commands else None

    def _command(self) -> Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _TooDeepError
        node = None if self.at_end() else self._compound_or_simple()
        self._depth -= 1
        return node

    def _compound_or_simple(self) -> Node | None:
        match self._peek():
            case "(":
                return self._parenthesis()
            case "{":
                self._at += 1
                body = self._body("}")
                return Group(body, subshell=False, redirects=self._redirects())
            case "if":
                return self._if()
            case "while" | "until":
                return self._loop()
            case "for" | "select":
                return self._for()
            case "case":
                return self._case()
            case "function":
                self._at += 1
                name = self._peek()
                self._at += 1
                return self._function(name)
            case "[[":
                return self._double_bracket()
        return self._simple()

    def _body(self, closing: str) -> Sequence:
        body = self.sequence(frozenset({closing}))
        self._take(closing)
        return body

    def _parenthesis(self) -> Node | None:
        if self._touching("("):
            self._skip_arithmetic()
            return None
        self._at += 1
        body = self._body(")")
        return Group(body, subshell=True, redirects=self._redirects())

    def _touching(self, text: str) -> bool:
        """Tell whether the next token is followed at once by this operator."""
        if self._at + 1 >= len(self._tokens):
            return False
        token, following = self._tokens[self._at], self._tokens[self._at + 1]
        return following.is_operator and following.text == text and token.end == following.start

    def _skip_arithmetic(self) -> None:
        depth = 0
        while not self.at_end():
            token = self._tokens[self._at]
            self._at += 1
            if token.is_operator:
                depth += (token.text == "(") - (token.text == ")")
                if depth <= 0:
                    return

    def _if(self) -> Node:
        branches: list[tuple[Sequence, Sequence]] = []
        otherwise: Sequence = ()
        while self._take("if", "elif"):
            condition = self.sequence(frozenset({"then"}))
            self._take("then")
            branches.append((condition, self.sequence(frozenset({"elif", "else", "fi"}))))
        if self._take("else"):
            otherwise = self.sequence(frozenset({"fi"}))
        self._take("fi")
        return If(tuple(branches), otherwise)

    def _loop(self) -> Node:
        self._at += 1
        condition = self.sequence(frozenset({"do"}))
        body = self._do()
        return Loop(condition, body, self._redirects())

    def _do(self) -> Sequence:
        self._take("do")
        return self._body("done")

    def _for(self) -> Node | None:
        self._at += 1
        if self._peek() == "(" and self._touching("("):
            self._skip_arithmetic()
            self._take(";")
            self._skip_newlines()
            return Loop((), self._do(), self._redirects())
        name = self._peek()
        self._at += 1
        self._skip_newlines()
        words: tuple[Word, ...] | None = None
        if self._take("in"):
            words = self._words()
        while self._take(";", "\n"):
            pass
        body = self._do()
        self._redirects()
        return For(name, words, body)

    def _words(self) -> tuple[Word, ...]:
        words: list[Word] = []
        while not self.at_end() and not self._tokens[self._at].is_operator:
            words.append(self._tokens[self._at].word)
            self._at += 1
        return tuple(words)

    def _case(self) -> Node:
        self._at += 1
        word = None if self.at_end() else self._tokens[self._at].word
        self._at += 1
        self._skip_newlines()
        self._take("in")
        items: list[tuple[tuple[Word, ...], Sequence]] = []
        while not self.at_end() and not self._take("esac"):
            if self._take("\n", ";", "(", *_CASE_ENDS):
                continue
            patterns = list(self._words())
            while self._take("|"):
                patterns.extend(self._words())
            if not self._take(")"):
                self._at += 1
                continue
            items.append((tuple(patterns), self.sequence(frozenset({"esac"}))))
        self._redirects()
        return Case(word or (Part("text", "", quoted=True),), tuple(items))

    def _function(self, name: str) -> Node | None:
        if self._take("("):
            self._take(")")
        self._skip_newlines()
        body = self._command()
        return Function(name, body) if body is not None else None

    def _double_bracket(self) -> Node:
        """Read ``[[ ... ]]`` as one command: inside it, operators are plain words."""
        words: list[Word] = []
        while not self.at_end():
            token = self._tokens[self._at]
            if token.text == "\n" and not _continues(words):
                break
            self._at += 1
            words.append(token.word or (Part("text", token.text, quoted=False),))
            if token.text == "]]":
                break
        return Simple(words=tuple(words), redirects=self._redirects())

    def _simple(self) -> Node | None:
        assignments: list[Assignment] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        start = self._at
        while not self.at_end():
            token = self._tokens[self._at]
            if token.is_operator:
                if token.text in _REDIRECTS:
                    redirects.extend(self._redirects())
                    continue
                if token.text == "(" and len(words) == 1 and not assignments:
                    return self._function_or_stray(words[0])
                break
            given = assignment(token.word)
            if given is not None and self._touching("(") and _is_empty(given.value):
                assignments.append(self._array(given))
            elif given is not None and not words:
                assignments.append(given)
                self._at += 1
            else:
                words.append(token.word)
                self._at += 1
        if self._at == start:
            self._at += 1  # an operator that nothing can start with
            return None
        return Simple(tuple(assignments), tuple(words), tuple(redirects))

    def _function_or_stray(self, name: Word) -> Node | None:
        self._at += 1
        if self._take(")") and len(name) == 1 and _NAME.fullmatch(name[0].text):
            return self._function(name[0].text)
        return Simple(words=(name,))

    def _array(self, given: Assignment) -> Assignment:
        """Read ``name=( ... )``; newlines inside are blanks."""
        self._at += 2
        values: list[Word] = []
        while not self.at_end() and not self._take(")"):
            values.extend(self._words())
            if not self._take("\n") and self._peek() != ")":
                self._at += 1
        return given._replace(value=tuple(values), is_array=True)

    def _redirects(self) -> tuple[Redirect, ...]:
        found: list[Redirect] = []
        while not self.at_end():
            token = self._tokens[self._at]
            if not token.is_operator or token.text not in _REDIRECTS:
                break
            self._at += 1
            if not self.at_end() and not self._tokens[self._at].is_operator:
                target = self._tokens[self._at].word
                found.append(Redirect(token.text, target, token.body, token.number))
                self._at += 1
        return tuple(found)


def keyed(word: Word) -> tuple[str | None, Word]:
    """Split an array's ``[key]=value`` element into both; the key is None where there is none."""
    head = word[0]
    found = _KEYED.match(head.text) if head.kind == "text" and not head.quoted else None
    if found is None:
        return None, word
    return found[1], (Part("text", head.text[found.end() :], quoted=False), *word[1:])


def _continues(words: list[Word]) -> bool:
    """Tell whether a newline may follow: ``[[ a &&`` goes on."""
    return bool(words) and words[-1][0].text in {"&&", "||", "\n"}


def _is_empty(value: object) -> bool:
    return isinstance(value, tuple) and all(part.text == "" for part in value)
