"""A password hasher that keeps note of when it is asked."""

from django.contrib.auth.hashers import MD5PasswordHasher
from django.db import connection


class WatchedHasher(MD5PasswordHasher):
    """Appends to `in_transaction` whether a transaction is open while it hashes."""

    algorithm = "watched"
    in_transaction: list[bool] = []

    def encode(self, password: str, salt: str) -> str:
        self.in_transaction.append(connection.in_atomic_block)
        return super().encode(password, salt)
