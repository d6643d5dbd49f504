"""Writing: batches, single appends, many who append at once, a matrix of sizes, bytes on disk."""
