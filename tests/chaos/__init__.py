"""Proof from outside: real clusters on a real database, while processes are killed and the database goes away.

`python -m tests.chaos` (`make chaos`) runs every scenario on SQLite and on a PostgreSQL of its own, and prints a table.

Columns:

- `accepted`: tasks whose transaction committed, as the one who enqueued them counted.
- `lost`: accepted, and neither SUCCESSFUL nor FAILED at the end. Must be 0.
- `repeated`: effects of tasks that are not atomic which happened again. Allowed where a process or a connection died.
- `superseded`: outcomes that came too late and were refused.
- `kills`: processes, backends or clusters that were killed.
- `recovery`: tasks finished in a window after the fault, against those finished in a window of the same length before
  it, in the same run. Each task is `tests.work.tasks.pace`, which costs its worker 25 ms of sleep and one INSERT, and
  there are always more of them than the workers can do; so the number of workers that work sets the rate, not how busy
  the machine is. The first window opens when every worker has finished a task; the second when, with the cause of the
  fault gone, as many workers as before have finished a task again.
- `silence`: seconds from the end of the fault until the next task finished.
- `ready`: seconds from the end of the fault until as many workers as before finished tasks again. A killed cluster's
  replacement starts Python and imports Django in this time.
- `lines`: the most lines that one cluster logged from the beginning of the fault until it was ready.

The modules: `scenarios` lists them all; `run` runs one in a process of its own, on a `stage`. `databases`, `clusters`
and `producer` are what they play with, `measures` is how they are judged. The scenarios themselves: `conservation`,
`recovery`, `late`, `hosts`, `clock`, `drain`.
"""
