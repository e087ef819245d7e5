"""Training as a step of a candidate: data, teachers, losses, the loop, and what becomes of the weights."""
