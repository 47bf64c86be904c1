"""Recovery codes, for whoever has lost the device: ten, shown once, each good for one login.

A code has 120 random bits, so a plain digest hides it as well as a slow one would, and no key that may be lost
someday is needed to check it.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from django.db import transaction
from django.utils import timezone

from accounts.models import RecoveryCode, User

COUNT = 10
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32: without i, l and o, which look like digits, and u."""
LENGTH = 24
GROUP = 4


def make(user: User) -> list[str]:
    """Give the user new codes in place of all older ones, and return them: nobody can read them again."""
    codes = ["".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for _ in range(COUNT)]
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # two at once: the codes of one of them, not all twenty
        RecoveryCode.objects.filter(user=user).delete()
        RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=digest_of(code)) for code in codes)
    return ["-".join(code[at : at + GROUP] for at in range(0, LENGTH, GROUP)) for code in codes]


def use(user: User, code: str) -> bool:
    """Use up a code, however it is spaced and spelt; False if it does not count. Twice at once: one is told True."""
    unused = RecoveryCode.objects.filter(user=user, digest=digest_of(code), used_at=None)
    return bool(unused.update(used_at=timezone.now()))


def left(user: User) -> int:
    """Return how many codes the user has that were not used."""
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


def digest_of(code: str) -> str:
    """Return what is stored of a code."""
    plain = re.sub(r"[\s-]", "", code.lower()).translate(str.maketrans("ilo", "110"))
    return hashlib.sha256(plain.encode()).hexdigest()
