"""Hearing of commits: catching up, latency, a thousand who wait."""
