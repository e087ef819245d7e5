"""What may be tried and what came of it, as pure data: candidates, steps, spaces, outcomes, and the bytes they cost.

Nothing here reads a clock, draws a random number, or imports torch, Ray or MLflow.
"""
