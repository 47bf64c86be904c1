"""How fast it is: `make bench` for the project itself, `make bench-peers` beside others. See docs/performance.md.

__main__     the command: databases, one process of measures on each, the table
throughput   drain, flat, scaling
latency      pickup
calls        enqueue, bulk, signup: what the caller waits for
idle         idle
schedules    schedules
pruning      prune
profile      profile: where the time goes, by process
stage        what they share: an empty database, clusters, rows, waiting
page         the shared page on which a task marks its start
machine      /proc: CPU time by process, memory; what machine this is
report       lines of JSON, the table
settings models tasks   the app of the task that is measured
peers/       the same with other systems
"""
