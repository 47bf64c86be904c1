"""What the task functions of the tests leave behind."""

from django.db import models


class Effect(models.Model):
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: "models.Manager[Effect]" = models.Manager()
