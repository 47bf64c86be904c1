"""On PostgreSQL, let each INSERT of tasks wake the clusters at its commit."""

from django.db import migrations

INSTALL = """
    CREATE FUNCTION tasks_notify_clusters() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('tasks', '');
        RETURN NULL;
    END $$;
    CREATE TRIGGER tasks_task_notify_clusters AFTER INSERT ON tasks_task
        FOR EACH STATEMENT EXECUTE FUNCTION tasks_notify_clusters();
"""
REMOVE = """
    DROP TRIGGER tasks_task_notify_clusters ON tasks_task;
    DROP FUNCTION tasks_notify_clusters();
"""


def on_postgresql(statements):
    def run(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(statements)

    return run


class Migration(migrations.Migration):
    dependencies = [("tasks", "0001_initial")]
    operations = [migrations.RunPython(on_postgresql(INSTALL), on_postgresql(REMOVE))]
