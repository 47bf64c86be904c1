"""The task as each system wants it, in the settings that the system comes with. BENCH_URL names the store."""
