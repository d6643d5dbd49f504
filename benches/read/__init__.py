"""Reading what one looks for: random events, one stream among many."""
