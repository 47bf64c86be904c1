"""What a new password must not be. The rules are those of NIST SP 800-63B: length and lists, no kinds of characters.

They look at nothing but what was typed, so they answer alike whether the address has an account or not.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
import unicodedata
from collections.abc import Iterator
from functools import cache
from http.client import HTTPException
from queue import Empty, SimpleQueue
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from django.conf import settings
from django.contrib.auth.password_validation import CommonPasswordValidator, UserAttributeSimilarityValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

logger = logging.getLogger(__name__)


class MaximumLengthValidator:
    """Refuses a password that is longer than anybody types, wherever it comes from."""

    def __init__(self, max_length: int = 1024) -> None:
        self.max_length = max_length

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError."""
        if len(password) > self.max_length:
            text = ngettext(
                "This password is too long. It must contain at most %(count)d character.",
                "This password is too long. It must contain at most %(count)d characters.",
                self.max_length,
            )
            raise ValidationError(text, "password_too_long", {"count": self.max_length})

    def get_help_text(self) -> str:
        """Return nothing: nobody needs to be told."""
        return ""


class ContextValidator(UserAttributeSimilarityValidator):
    """Refuses what comes first to somebody who guesses: the names of the site, of the person and of the address.

    Django's, which measures how similar the whole is, and in addition: what is left of a password once these words are
    taken out must be more than padding. Digits and signs that look like letters count as these: "St3w4rd".
    """

    SHORTEST_WORD = 3
    FEWEST_LETTERS = 4
    """So many different ones have to be left."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError."""
        super().validate(password, user)
        rest = without(password, _words(user))
        if rest is None:
            return
        letters = "".join(filter(str.isalpha, rest))
        if len(set(letters)) < self.FEWEST_LETTERS or letters in _common_passwords():
            text = _("The password is little more than the name of this site, your name or your address.")
            raise ValidationError(text, "password_of_context")

    def get_help_text(self) -> str:
        """Say it in the administration's forms."""
        return _("Your password can’t be made of your name, your address or the name of this site.")


def without(password: str, words: set[str]) -> str | None:
    """Return the password in one spelling without these words; None if it has none of them."""
    text = _spelt(password)
    folded = _folded(text)
    is_left = [True] * len(text)
    for word in sorted(map(_folded, words), key=len, reverse=True):
        for found in re.finditer(re.escape(word), folded):
            is_left[found.start() : found.end()] = [False] * len(word)
    return None if all(is_left) else "".join(character for character, left in zip(text, is_left, strict=True) if left)


_LOOK_ALIKES = str.maketrans({"0": "o", "1": "i", "!": "i", "|": "i", "l": "i", "3": "e", "4": "a", "@": "a"})
_LOOK_ALIKES |= str.maketrans({"5": "s", "$": "s", "7": "t", "+": "t", "8": "b"})


def _spelt(text: str) -> str:
    """Return it without case and accents."""
    marked = unicodedata.normalize("NFKD", text).casefold()
    return "".join(character for character in marked if not unicodedata.combining(character))


def _folded(text: str) -> str:
    """Return it with one letter for all that look alike; as long as before."""
    return text.translate(_LOOK_ALIKES)


def _words(user: Any) -> set[str]:
    sources = [settings.SITE_NAME, urlsplit(settings.SITE_URL).hostname or ""]
    sources += [getattr(user, "email", "") or "", getattr(user, "display_name", "") or ""]
    parts = {part for source in sources for part in (*source.split("@"), *re.split(r"[\W_]+", source))}
    return {_spelt(part) for part in parts if len(_spelt(part)) >= ContextValidator.SHORTEST_WORD}


@cache
def _common_passwords() -> set[str]:
    return set(CommonPasswordValidator().passwords)


class BreachValidator:
    """Refuses a password that others have lost, as far as a server knows that has the API of Pwned Passwords.

    The server is told the first five hexadecimal digits of the SHA-1 of the password, which some hundred others share,
    and answers with the rest of all that it knows. Without an answer within a second the password passes, and one line
    is logged.
    """

    LIMIT = 1.0
    """Seconds for all of it, the look-up of the server's name included."""

    LARGEST = 1 << 20
    """Bytes of an answer; the largest of the real ones, padding included, has a tenth of that."""

    _threads = threading.BoundedSemaphore(8)

    def __init__(self, url: str) -> None:
        self.url = url

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError."""
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        lines = self._ask(digest[:5])
        if any(suffix == digest[5:] and count != "0" for suffix, count in lines):  # 0: padding
            text = _("This password is on a list of passwords that were stolen elsewhere. Choose another one.")
            raise ValidationError(text, "password_breached")

    def get_help_text(self) -> str:
        """Say it in the administration's forms."""
        return _("Your password can’t be on the list of passwords that were stolen elsewhere.")

    def _ask(self, prefix: str) -> list[tuple[str, str]]:
        """Return suffixes and counts; nothing if there is no answer in time.

        A thread of its own, since no timeout of Python's covers a name server that is silent or a server that sends
        a byte each half second. It ends by itself; there are never more than a few.
        """
        answers: SimpleQueue[list[tuple[str, str]] | str] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(list(_lines(self._fetched(prefix))))
            except (OSError, HTTPException, ValueError) as error:
                answers.put(type(error).__name__)  # its text may have the address, and so the digits
                if isinstance(error, HTTPError):
                    error.close()
            finally:
                self._threads.release()

        answer: list[tuple[str, str]] | str = "too many are waiting"
        if self._threads.acquire(blocking=False):
            threading.Thread(target=ask, name="breach-check", daemon=True).start()
            try:
                answer = answers.get(timeout=self.LIMIT)
            except Empty:
                answer = f"no answer within {self.LIMIT:g} s"
        if isinstance(answer, str):
            logger.warning("A new password was not compared with the list of stolen ones: %s", answer)
            return []
        return answer

    def _fetched(self, prefix: str) -> bytes:
        deadline = time.monotonic() + self.LIMIT
        request = Request(self.url + prefix, headers={"Add-Padding": "true", "User-Agent": "Steward"})  # noqa: S310 - the settings allow http and https only
        with urlopen(request, timeout=self.LIMIT) as response:  # noqa: S310 - as above
            body = b""
            while chunk := response.read1(65_536):
                body += chunk
                if len(body) > self.LARGEST:
                    raise ValueError("too large")
                if time.monotonic() > deadline:
                    raise TimeoutError
        return body


def _lines(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield what the lines "SUFFIX:COUNT" say. Raises ValueError if one is different: then it is not that list."""
    for line in body.decode("ascii").splitlines():
        match = re.fullmatch(r"([0-9A-Fa-f]{35}):([0-9]+)", line.strip())
        if not match:
            raise ValueError("not a list of suffixes")
        yield match[1].upper(), str(int(match[2]))
