"""The statements that run for each task, as SQL compiled once. `tasks.leases` gives them their meaning.

Django builds a statement in a fifth of a millisecond, longer than the database needs for it, so claim, start, succeed
and bulk insert are written here, and `tasks.driver` runs them. What is rare is left to the ORM. Where the two databases
differ:

- PostgreSQL takes rows with SKIP LOCKED, in one statement. SQLite has one writer at a time: it looks first, which needs
  no lock, and then takes what it saw and what is still there.
- PostgreSQL waits for the disk at each commit. A claim and a start mark need not survive the server, only the worker,
  and are committed without that wait (`synchronous_commit`): if the server crashes, they never were, and neither lets
  an attempt begin twice under one lease. An outcome is waited for unless the caller knows that another follows at once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.db import connection

from tasks.driver import Row, Statement

_DIALECTS = {
    "postgresql": {
        "now": "statement_timestamp()",
        "later": "statement_timestamp() + %s::float8 * interval '1 second'",
        "seconds_until": "CAST(EXTRACT(EPOCH FROM min(due_at) - statement_timestamp()) AS float8)",
        "append_worker": "worker_ids || to_jsonb(%s::text)",
        "value": "%s::jsonb",
        "quick": "(SELECT set_config('synchronous_commit', 'off', true)) = 'off' AND",
        "each": "unnest(%s::text[]) AS queues(q)",
        "text": "%s::text",
        "small": "%s::smallint",
        "big": "%s::bigint",
        "flag": "%s::boolean",
        "time": "%s::timestamptz",
        "call": "args::jsonb, kwargs::jsonb",
        "calls": "unnest(%s::text[], %s::text[]) WITH ORDINALITY AS call(args, kwargs, number) ORDER BY number",
    },
    "sqlite": {
        "now": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')",
        "later": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s || ' seconds')",
        "seconds_until": "(julianday(min(due_at)) - julianday('now')) * 86400",
        "append_worker": "json_insert(worker_ids, '$[#]', %s)",
        "value": "%s",
        "quick": "",
        "each": "(SELECT value AS q FROM json_each(%s))",
        "text": "%s",
        "small": "%s",
        "big": "%s",
        "flag": "%s",
        "time": "%s",
        "call": "json_extract(value, '$[0]'), json_extract(value, '$[1]')",
        "calls": "json_each(%s) WHERE true",
    },
}

# The queues, and in each its priorities, the highest first: a walk over the index that touches one row for each.
_LINES = """
    RECURSIVE line(queue_name, priority) AS (
        SELECT q, (SELECT priority FROM tasks_task t WHERE t.queue_name = q AND {waits}
                   ORDER BY t.priority DESC LIMIT 1)
        FROM {each}
        WHERE q NOT IN (SELECT name FROM tasks_queue
                        WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > {now}))
        UNION ALL
        SELECT queue_name, (SELECT priority FROM tasks_task t
                            WHERE t.queue_name = line.queue_name AND t.priority < line.priority AND {waits}
                            ORDER BY t.priority DESC LIMIT 1)
        FROM line WHERE line.priority IS NOT NULL)"""

_CLAIM_POSTGRESQL = """
    WITH {lines}, due AS MATERIALIZED (
        SELECT t.id FROM line CROSS JOIN LATERAL (
            SELECT id, run_after FROM tasks_task
            WHERE queue_name = line.queue_name AND priority = line.priority AND {waits}
              AND run_after <= {now} AND task_path = ANY(%s)
            ORDER BY run_after, id LIMIT %s FOR UPDATE SKIP LOCKED) t
        ORDER BY line.priority DESC, t.run_after, t.id LIMIT %s)
    UPDATE tasks_task SET lease_id = %s, cluster_id = %s, leased_at = {now}
    WHERE {quick} id = ANY(ARRAY(SELECT id FROM due))
    RETURNING id, task_path, priority, CAST(run_after AS text)"""

_LOOK_SQLITE = """
    WITH {lines}
    SELECT t.id FROM line JOIN tasks_task t ON t.id IN (
        SELECT d.id FROM tasks_task d
        WHERE d.queue_name = line.queue_name AND d.priority = line.priority AND {waits}
          AND d.run_after <= {now} AND d.task_path IN (SELECT value FROM json_each(%s))
        ORDER BY d.run_after, d.id LIMIT %s)
    ORDER BY line.priority DESC, t.run_after, t.id LIMIT %s"""

_TAKE_SQLITE = """
    UPDATE tasks_task SET lease_id = %s, cluster_id = %s, leased_at = {now}
    WHERE id IN (SELECT value FROM json_each(%s)) AND {waits}
    RETURNING id, task_path, priority, CAST(run_after AS text)"""

_UNKNOWN_POSTGRESQL = """
    WITH {lines}
    SELECT t.id FROM line CROSS JOIN LATERAL (
        SELECT id, task_path FROM tasks_task
        WHERE queue_name = line.queue_name AND priority = line.priority AND {waits} AND run_after <= {later}
        ORDER BY run_after, id LIMIT %s) t
    WHERE t.task_path <> ALL(%s)"""

_UNKNOWN_SQLITE = """
    WITH {lines}
    SELECT t.id FROM line JOIN tasks_task t ON t.id IN (
        SELECT d.id FROM tasks_task d
        WHERE d.queue_name = line.queue_name AND d.priority = line.priority AND {waits} AND d.run_after <= {later}
        ORDER BY d.run_after, d.id LIMIT %s)
    WHERE t.task_path NOT IN (SELECT value FROM json_each(%s))"""

# Ordered so that the index of what is held is read, whatever PostgreSQL thinks how many rows are held: once a second.
_NEXT_DUE = """
    SELECT (SELECT {seconds_until} FROM tasks_schedule WHERE retired_at IS NULL AND problem = ''),
        (SELECT 1 FROM tasks_task WHERE held_at IS NOT NULL AND schedule_id IS NOT NULL ORDER BY task_path LIMIT 1)"""

_START = """
    UPDATE tasks_task
    SET status = 'RUNNING', attempts = attempts + 1, worker_ids = {append_worker},
        last_attempted_at = {now}, started_at = COALESCE(started_at, {now})
    WHERE {quick} id = %s AND lease_id = %s AND status = 'READY'
    RETURNING task_path, args, kwargs, attempts, max_attempts"""

_SUCCEED = """
    UPDATE tasks_task
    SET status = 'SUCCESSFUL', finished_at = {now}, expires_at = {later}, return_value = {value},
        lease_id = NULL, leased_at = NULL, cluster_id = NULL
    WHERE id = %s AND lease_id = %s AND status = 'RUNNING'
    RETURNING id"""

# Both in one: a statement of its own for each row would cost PostgreSQL the constraints and the indexes of the table,
# which it reads anew in each. In SET, `status` is what it was: RUNNING is the row that ends, READY the one that starts.
# In RETURNING it is what it has become: SUCCESSFUL or RUNNING. `id IN` is what the index of ids is read for, in their
# order; an OR alone would be two reads.
_SUCCEED_AND_START = """
    UPDATE tasks_task
    SET status = CASE status WHEN 'RUNNING' THEN 'SUCCESSFUL' ELSE 'RUNNING' END,
        finished_at = CASE status WHEN 'RUNNING' THEN {now} END,
        expires_at = CASE status WHEN 'RUNNING' THEN {later} ELSE expires_at END,
        return_value = CASE status WHEN 'RUNNING' THEN {value} ELSE return_value END,
        lease_id = CASE status WHEN 'READY' THEN lease_id END,
        leased_at = CASE status WHEN 'READY' THEN leased_at END,
        cluster_id = CASE status WHEN 'READY' THEN cluster_id END,
        attempts = CASE status WHEN 'READY' THEN attempts + 1 ELSE attempts END,
        worker_ids = CASE status WHEN 'READY' THEN {append_worker} ELSE worker_ids END,
        last_attempted_at = CASE status WHEN 'READY' THEN {now} ELSE last_attempted_at END,
        started_at = COALESCE(started_at, {now})
    WHERE {quick} id IN (%s, %s)
      AND (id = %s AND lease_id = %s AND status = 'RUNNING' OR id = %s AND lease_id = %s AND status = 'READY')
    RETURNING status, CASE status WHEN 'RUNNING' THEN task_path END, CASE status WHEN 'RUNNING' THEN args END,
        CASE status WHEN 'RUNNING' THEN kwargs END, attempts, max_attempts"""

_INSERT = """
    INSERT INTO tasks_task (
        task_path, queue_name, priority, max_attempts, run_after, idempotency_key, args, kwargs,
        status, enqueued_at, attempts, worker_ids, schedule_id, held_at)
    SELECT {text}, {text}, {small}, {small}, COALESCE({time}, {now}), {text}, {call}, 'READY', {now}, 0, '[]',
        {big}, CASE WHEN {flag} THEN {now} END
    FROM {calls}
    ON CONFLICT DO NOTHING
    RETURNING id, enqueued_at"""


def claim(
    cluster_id: uuid.UUID, lease_id: uuid.UUID, limit: int, queues: Iterable[str], task_paths: Iterable[str]
) -> list[Row]:
    """Lease the next rows; return id, task_path, priority and run_after as text of each, in no order."""
    if connection.vendor == "postgresql":
        given = [list(queues), list(task_paths), limit, limit, lease_id, cluster_id]
        return _compiled(_CLAIM_POSTGRESQL).run(given)
    queues, task_paths, taken = json.dumps(list(queues)), json.dumps(list(task_paths)), list[Row]()
    while True:  # until nobody was faster
        left = limit - len(taken)
        ids = [row[0] for row in _compiled(_LOOK_SQLITE).run([queues, task_paths, left, left])]
        if ids:
            taken += _compiled(_TAKE_SQLITE).run([lease_id.hex, cluster_id.hex, json.dumps(ids)])
        if len(ids) < left or len(taken) == limit:
            return taken


def unknown(limit: int, overdue: float, queues: Iterable[str], task_paths: Iterable[str]) -> list[int]:
    """Return ids of rows of other functions among the first `limit` of each line, due so many seconds ago."""
    if connection.vendor == "postgresql":
        rows = _compiled(_UNKNOWN_POSTGRESQL).run([list(queues), -overdue, limit, list(task_paths)])
    else:
        given = [json.dumps(list(queues)), -overdue, limit, json.dumps(list(task_paths))]
        rows = _compiled(_UNKNOWN_SQLITE).run(given)
    return [row[0] for row in rows]


def now() -> datetime:
    """Return the database's time."""
    ((value,),) = _compiled("SELECT {now}").run([])
    return _time(value)


def next_due() -> tuple[float | None, bool]:
    """Return in how many seconds the next schedule is due, None if there is none; and whether a task of one is held."""
    ((due_in, is_held),) = _compiled(_NEXT_DUE).run([])
    return due_in, bool(is_held)


def start(task_id: int, lease_id: uuid.UUID, worker_id: str) -> Row | None:
    """Start a claimed row; return task_path, args, kwargs, attempts, max_attempts; None if the lease is gone."""
    rows = _compiled(_START).run([worker_id, task_id, lease_id.hex])
    return rows[0] if rows else None


def succeed(task_id: int, lease_id: uuid.UUID, value: str, kept: float) -> bool:
    """End a running row with the value, as JSON text, kept for so many seconds; False if the lease is gone."""
    return bool(_compiled(_SUCCEED).run([kept, value, task_id, lease_id.hex]))


def succeed_and_start(
    ended: tuple[int, uuid.UUID, str, float], started: tuple[int, uuid.UUID, str], *, is_durable: bool
) -> tuple[bool, Row | None]:
    """Do both in one transaction, with the arguments of each; return what each returns.

    `is_durable`: on PostgreSQL, wait until the disk has the outcome.
    """
    task_id, lease_id, value, kept = ended
    next_id, next_lease_id, worker_id = started
    statement = _compiled(_SUCCEED_AND_START, quick="") if is_durable else _compiled(_SUCCEED_AND_START)
    given = [kept, value, worker_id, task_id, next_id, task_id, lease_id.hex, next_id, next_lease_id.hex]
    row_of = {status: tuple(row) for status, *row in statement.run(given)}
    return "SUCCESSFUL" in row_of, row_of.get("RUNNING")


def insert(values: Sequence[Any], calls: Sequence[tuple[str, str]]) -> list[tuple[int, datetime]]:
    """Insert a row for each call (args and kwargs as JSON text), in their order; return id and enqueued_at of each.

    `values`, the same for all: task_path, queue_name, priority, max_attempts, run_after (None: now), idempotency_key,
    schedule_id, whether they are held. None is inserted, and [] returned, if an unfinished row has that key.
    """
    path, queue, priority, max_attempts, run_after, key, schedule_id, is_held = values
    if connection.vendor == "postgresql":
        args, kwargs = zip(*calls, strict=True)
        given = [path, queue, priority, max_attempts, run_after, key, schedule_id, is_held, list(args), list(kwargs)]
    else:
        time = connection.ops.adapt_datetimefield_value(run_after)
        text = "[" + ",".join(f"[{args},{kwargs}]" for args, kwargs in calls) + "]"
        given = [path, queue, priority, max_attempts, time, key, schedule_id, is_held, text]
    return [(row[0], _time(row[1])) for row in sorted(_compiled(_INSERT).run(given))]


@cache
def _compiled(statement: str, **parts: str) -> Statement:
    dialect = _DIALECTS[connection.vendor] | {"waits": "status = 'READY' AND lease_id IS NULL AND held_at IS NULL"}
    dialect |= parts
    return Statement(statement.format(**dialect, lines=_LINES.format(**dialect)))


def _time(value: Any) -> datetime:
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
