"""Names that mail programs would show as a link. A signup refuses them, and a mail leaves out one that is there."""

from __future__ import annotations

import re
import unicodedata

_ADDRESS = re.compile(
    r"""://                          # of any kind
    | \\\\                           # a host in a network of Windows
    | \bwww\.
    | \S@\S                          # of mail
    | [^\s.]\.[^\W\d_]{2}            # a host: what ends it has two letters or more, which "e.V." and "Ph.D." have not
    | 。[a-z]{2}                     # browsers take it for a dot, and a sentence in Japanese does not go on like that
    | \b\d{1,3}(?:\.\d{1,3}){3}\b    # a host by its number
    """,
    re.IGNORECASE | re.VERBOSE,
)


def looks_like_address(name: str) -> bool:
    """Return whether a part of it looks like an address of the web or of mail, in whatever letters.

    "J. R. R. Tolkien" does not; "Dr.Miller" does, without a space after the dot: nobody knows all that may end a host.
    """
    letters = unicodedata.normalize("NFKC", name)
    unseen = ("M", "Cf")  # marks, which some scripts write in the middle of a word, and joiners
    return bool(_ADDRESS.search("".join(c for c in letters if not unicodedata.category(c).startswith(unseen))))
