"""Reading everything in its order: typed, raw, and logs that were written in different ways."""
