"""What does not depend on events, or should not: opening, importing, and how cost grows with the store."""
