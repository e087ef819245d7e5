"""Pure arithmetic on scores: dominance, tests by betting, and which points a bootstrap tells apart."""
