"""The app."""

from django.apps import AppConfig


class ExamplesConfig(AppConfig):
    """The examples."""

    name = "examples"

    def ready(self) -> None:
        """Connect the error hook."""
        from examples import hooks  # noqa: F401 - its receiver connects itself
