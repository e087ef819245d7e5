"""Methods that store weights in fewer bits, one module each, and what they share."""
