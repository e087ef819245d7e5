"""The tests; a package, so that `tests.examples` and `tests.fakes` can be imported by name."""
