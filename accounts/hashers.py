"""How passwords are kept: Argon2id with the parameters of OWASP's Password Storage Cheat Sheet."""

from __future__ import annotations

from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw
from django.contrib.auth.hashers import Argon2PasswordHasher


class OwaspArgon2Hasher(Argon2PasswordHasher):
    """Django's, with 19 MiB of memory, two passes and one lane.

    That is the cheat sheet's first choice, https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html.
    Django's own takes 100 MiB and eight threads for each login that anybody asks for. The name of the algorithm is the
    same, so hashes by Django's are verified too, and become ours at the next login.
    """

    memory_cost = 19 * 1024  # KiB
    time_cost = 2
    parallelism = 1

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Make up for what a hash with smaller parameters was quicker than ours, which an unknown address costs.

        The time is in proportion to memory times passes. One that is slower than ours cannot be made quicker.
        """
        made = self.decode(encoded)
        missing = self.memory_cost * self.time_cost - made["memory_cost"] * made["time_cost"]
        if missing >= 8:  # the least that Argon2 takes
            hash_secret_raw(password.encode(), b"of no account", 1, missing, 1, 32, Type.ID, ARGON2_VERSION)
