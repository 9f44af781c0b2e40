"""Prints clicks of people who do not exist, a line of JSON each: `clicks.py RATE`, a second."""

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
    # Flushed: what stands in a buffer when it is ended is lost.
    print(json.dumps(click), flush=True)
    due += 1 / rate
    time.sleep(max(0.0, due - time.monotonic()))
