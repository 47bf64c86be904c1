"""Commands of the app, a module each."""
