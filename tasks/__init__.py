"""Background work on the product's own database.

The life of a task:

1. enqueue inserts a row, READY, in the caller's transaction (`backend`);
2. a cluster claims rows that are due and leases them to itself (`leases`, called by `broker`);
3. a worker process starts the row: RUNNING, and the attempt is counted, before any of the task's code (`runner`);
4. the code runs, and whatever it does, the runner sees its end;
5. the worker finishes the row: SUCCESSFUL; or a TaskError is kept, and it is READY again after its backoff, or FAILED;
6. rows of a worker or a cluster that died are rescued by the housekeeper of a living cluster (`rescue`);
7. a cluster that stops releases what it has not started and interrupts what does not end in time.

The map, lower levels never import higher ones: `exceptions` `backoff` `outage` `recurrence` `checkpoints` `libpq` ·
`functions` `schedules` `retention` `models` `driver` `statements` · `leases` `worker` `signals` `progress` `subjects` ·
`failures` `rescue` `holding` `ticks` `pings` `backend` `runner` `cleanup` `metrics` `audit` `shared` `sentry` `wakeup`
· `timetable` `broker` `housekeeper` `cluster` `testing` `tasks` · `admin` `views` `checks` and the commands.
"""
