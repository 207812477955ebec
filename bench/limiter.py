#!/usr/bin/env python3
"""./dev bench limiter: rate decisions a second, ours against rate-limiter-flexible on Redis, interleaved, medians; and how far
four processes overshoot. One JSON line a figure."""
import json
import statistics
import subprocess
import os

from api import HERE, ROOT, free_port, say, wait_for

ROUNDS, SECONDS = int(os.environ.get("BENCH_ROUNDS", 5)), int(os.environ.get("BENCH_SECONDS", 3))
PROCESSES, KEYS, RATE, BURST = 2, 1000, 500, 1000


def run(*command):
    return json.loads(subprocess.run([str(c) for c in command], cwd=HERE, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main():
    port = free_port()
    redis = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        url, ours = f"redis://127.0.0.1:{port}", ROOT / "build" / "bench" / "limiter"
        rows = {"cells": [], "slices": [], "peer": []}
        for _ in range(ROUNDS):
            rows["cells"].append(run(ours, PROCESSES, SECONDS, KEYS, RATE, BURST)["decisions_per_s"])
            rows["slices"].append(run(ours, PROCESSES, SECONDS, KEYS, RATE, BURST, url)["decisions_per_s"])
            rows["peer"].append(run("node", "limiter.mjs", PROCESSES, SECONDS, KEYS, RATE, url)["decisions_per_s"])
        middle = {k: statistics.median(v) for k, v in rows.items()}
        how = f"{PROCESSES} processes, {KEYS} buckets of {RATE}/s, {ROUNDS} rounds of {SECONDS} s interleaved, {os.cpu_count()} cores shared with Redis"
        for name, what in (("cells", "shared memory of a machine"), ("slices", "slices from Redis between machines")):
            say(name=f"limiter decisions/s, {what}, vs rate-limiter-flexible + Redis", ours=middle[name], peer=middle["peer"],
                ratio=round(middle[name] / middle["peer"], 2), how=how)
        got = run(ours, 4, SECONDS, 1, 2000, 2000)
        say(name="limiter overshoot, 4 processes on one bucket", ours=round(max(0, got["admitted"] / got["allowed"] - 1), 5), unit="of what is allowed",
            how=f"{got['admitted']} let in, {got['allowed']} allowed in {got['seconds']} s")
    finally:
        redis.kill()


if __name__ == "__main__":
    main()
