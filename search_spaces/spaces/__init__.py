"""The spaces that a search draws from: their choices, what a model can take, and the anchors tried first."""
