"""Prints made-up clicks as lines of JSON, RATE lines a second: `clicks.py RATE`."""

import json
import random
import sys
import time

rate = float(sys.argv[1])
pages = ("/", "/news", "/shop", "/shop/cart")
number = 0
due = time.monotonic()
while True:
    number += 1
    click = {"n": number, "at": time.time(), "page": random.choice(pages)}
    # Flushed: lines in a buffer are lost when the container is stopped.
    print(json.dumps(click), flush=True)
    due += 1 / rate
    time.sleep(max(0.0, due - time.monotonic()))
