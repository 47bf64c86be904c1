"""A table to compare with: the columns of a task, and no engine around it: no index, no constraint, no trigger."""

from copy import deepcopy
from typing import Any

from django.db import models

from tasks.models import Task


class PlainRow(models.Model):
    objects: Any = models.Manager()


for _column in Task._meta.local_concrete_fields:
    if not _column.primary_key:
        PlainRow.add_to_class(_column.name, deepcopy(_column))  # what Django does for an abstract base
