"""What a search expects of candidates that it has not tried: a divergence from a profile, a quality from a divergence,
and what measuring one would gain. Pure arithmetic over arrays."""
