"""Methods that take weights away: layers, heads, channels, or single weights."""
