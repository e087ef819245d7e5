"""One candidate from end to end: built, loaded, translated, scored and timed, in a trial or alone."""
