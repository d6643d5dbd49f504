"""Prevalent systems: objects in memory whose every change is an event.

system      PrevalentSystem, what a user holds
commands    the classes of commands, and what they are asked for
flushing    when commands become durable
journal     commands in the log: appended, and read back quickly
recovery    the state made again: newest usable snapshot, and the commands since
aborts      what takes a command back
endings     what waits when the program ends, or forks
"""
