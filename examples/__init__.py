"""Background work, shown to work: the examples of docs/background-work.md, installed with EXAMPLES only."""
