"""State that tasks share in the database."""

from django.db import models


class Page(models.Model):
    """A page and how often it was visited."""

    name = models.CharField(max_length=50, unique=True)
    visits = models.PositiveIntegerField(default=0)

    objects: "models.Manager[Page]" = models.Manager()
