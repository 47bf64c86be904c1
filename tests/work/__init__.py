"""An app of the tests: task functions that behave well and badly."""
