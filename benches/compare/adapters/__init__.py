"""What each peer is spoken to through. Each module needs its peer, so it is imported when that peer is measured, not before."""
