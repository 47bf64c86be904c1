"""A mailbox on disk for development: mails are kept as files and shown at /dev/mail/, which exists with DEBUG only."""
