"""Processors: handlers that are called for events, and what becomes of an event that they cannot handle.

processor      what a user holds           control        pause, resume, stop, from any thread
run            one run of it, from taking its consumer to letting it go
handling       handlers called, and the transaction that they are given
strategies     what becomes of an event that fails       backoff   how long to wait
breaker        the circuit breaker
letters        dead letters as they are stored           dead_letters   as users see them
"""
