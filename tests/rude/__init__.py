"""An app of the tests, of a later release: task functions that misuse the process they run in."""
