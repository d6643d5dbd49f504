"""What is derived from the log and can be made from it again."""
