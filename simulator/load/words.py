"""The words of one stage of a load shape, and the sentences that refuse them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import TypeVar

from simulator.quantities import parse_duration, parse_rate

ValueT = TypeVar("ValueT")
Read = Callable[[str], ValueT]
"""Makes a value of a word; ValueError where it is none."""


class Words:
    """Gives out the words of a stage by what they are, whatever their order; at the end none may be left."""

    def __init__(self, place: str, words: Sequence[str], known: Collection[str], example: str) -> None:
        """`place` names the stage and `example` is how one like it is written.

        `known` are the words it may have beside quantities, with `=` where a value follows.
        """
        self._place = place
        self._left = list(words)
        self._known = known
        self._example = example

    def refuse(self, problem: str) -> ValueError:
        """The error to raise."""
        return ValueError(f"{self._place}: {problem}; write for example {self._example!r}")

    def find(self, read: Read[ValueT]) -> ValueT | None:
        """Takes the first word that `read` can read; None where there is none."""
        for place, word in enumerate(self._left):
            try:
                value = read(word)
            except ValueError:
                continue
            del self._left[place]
            return value
        return None

    def take(self, read: Read[ValueT], what: str) -> ValueT:
        """The same, where there has to be one; `what` says what it is."""
        value = self.find(read)
        if value is None:
            raise self._miss(what, "{!r} is not " + what)
        return value

    def take_named(self, name: str, read: Read[ValueT], what: str, default: ValueT | None = None) -> ValueT:
        """The value of `name=value`; without a default it has to be there."""
        word = next((word for word in self._left if word.startswith(f"{name}=")), None)
        if word is None:
            if default is None:
                raise self._miss(f"{name}=", "{!r} does not belong there")
            return default
        self._left.remove(word)
        return self._read(read, word.removeprefix(f"{name}="), f"{word!r} should say {what}")

    def take_after(self, word: str, read: Read[ValueT], what: str) -> ValueT | None:
        """What follows that word; None where the word is not there."""
        if word not in self._left:
            return None
        place = self._left.index(word)
        follower = "".join(self._left[place + 1 : place + 2])
        del self._left[place : place + 2]
        return self._read(read, follower, f"after {word!r} comes {what}")

    def take_flag(self, word: str) -> bool:
        """Whether that word is there."""
        if word not in self._left:
            return False
        self._left.remove(word)
        return True

    def finish(self) -> None:
        """Refuses what is left."""
        if self._left:
            strange = self._describe_stranger("{!r} does not belong there")
            raise self.refuse(strange or f"{self._left[0]!r} is one word too many")

    def _read(self, read: Read[ValueT], text: str, problem: str) -> ValueT:
        try:
            return read(text)
        except ValueError:
            raise self.refuse(problem) from None

    def _miss(self, what: str, strange: str) -> ValueError:
        """What is missing; or better the word that was meant for it, in the sentence `strange`."""
        return self.refuse(self._describe_stranger(strange) or f"it lacks {what}")

    def _describe_stranger(self, sentence: str) -> str | None:
        """About the first word that could have no place in such a stage."""
        word = next((word for word in self._left if not self._belongs(word)), None)
        if word is None:
            return None
        name, equals, _ = word.partition("=")
        near = get_close_matches(name + equals, self._known, 1)
        return f"{word!r} does not belong there, did you mean {near[0]!r}" if near else sentence.format(word)

    def _belongs(self, word: str) -> bool:
        name, equals, _ = word.partition("=")
        return name + equals in self._known or _reads(parse_duration, word) or _reads(parse_rate, word)


def _reads(read: Read[float], word: str) -> bool:
    try:
        read(word)
    except ValueError:
        return False
    return True
