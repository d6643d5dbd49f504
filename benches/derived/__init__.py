"""What stands beside the log and is made of it: state, checks, optimistic transactions."""
