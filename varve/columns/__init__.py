"""Columns: many events as arrays, in and out, without a Python loop over events where their shape allows it.

Reading stands on the walk over blocks (``varve.replay``), writing on the checks of appends (``varve.appends``); readers and
streams lead here. numpy (extra ``columns``) and pyarrow (extra ``arrow``) are imported inside functions only, at the first use.
"""
