"""What is live: the watermark, the watcher, tails.

From below: ``watermark.py`` knows how far the log reaches and who waits for more, ``poller.py`` looks at the store for
commits of other processes, ``hub.py`` joins the two for one open store, ``scan.py`` reads the log in bounded steps;
``watcher.py``, ``tail.py`` and ``follow.py`` are what a user holds.

asyncio is imported inside functions, so that ``import varve`` does not load it.
"""
