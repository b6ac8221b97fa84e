"""The beginning of a program that watches how much memory belongs to it alone."""

MOST = 400_000_000  # bytes that a training on data in files may hold

# Programs set `done` at the end, and then know the `highest` number of bytes.
WATCHING = """
import json, sys, threading

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))

highest, done = 0, threading.Event()
def watch():
    global highest
    while not done.wait(0.005):
        highest = max(highest, anonymous())

threading.Thread(target=watch, daemon=True).start()
"""
