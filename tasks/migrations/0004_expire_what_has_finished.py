"""Give rows that finished before there was a retention the long one."""

from datetime import timedelta

from django.db import migrations
from django.db.models import F


def expire(apps, schema_editor):
    task = apps.get_model("tasks", "Task")
    finished = task.objects.filter(finished_at__isnull=False, expires_at__isnull=True)
    finished.update(expires_at=F("finished_at") + timedelta(days=90))


class Migration(migrations.Migration):
    dependencies = [("tasks", "0003_cancel_expire_claim_by_line")]
    operations = [migrations.RunPython(expire, migrations.RunPython.noop)]
