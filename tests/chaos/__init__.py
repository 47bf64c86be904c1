"""Proof from outside: real clusters on a real database, while processes are killed and the database goes away.

`python -m tests.chaos` runs every scenario on SQLite and on a PostgreSQL of its own, and prints a table.
"""
