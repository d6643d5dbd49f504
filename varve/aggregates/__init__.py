"""Aggregates: state folded from one stream, and commands decided on it. Functions; nothing to inherit from.

decider     initial, evolve, decide: without a stream
policy      when a state is worth saving
aggregate   a decider on a stream: load, execute
"""
