"""Published results of other people's models, beside a study's own: their file, where they are drawn, their table."""
