"""What a store makes of its log and its state; a ``Varve`` leads to all of it.

processor.py    Processor: what runs handlers       control.py   pause, resume, stop, from any thread
run.py          one run of it, from taking its consumer to letting it go
handling.py     handlers called, their transaction
strategies.py   what becomes of an event that fails  backoff.py   how long to wait
breaker.py      CircuitBreaker
letters.py      dead letters as they are stored      dead_letters.py   as users see them
optimistic.py   ``db.optimistic``: decide, commit, decide again where others were faster
"""
