"""Other systems beside this one, in turns, with the same task, the same producer and two worker processes each.

__main__       the command, the table
systems        what is measured: stores, workers, what is left
producer       enqueues; runs in the environment of its system
apps/          the task as each system wants it
requirements   the other systems, for var/bench/peers
"""
