"""The tests, laid out like the code. Without this file `tests/tasks` would shadow the app `tasks`."""
