"""The tests; a package, so that `tests.support.examples` and `tests.support.fakes` can be imported by name."""
