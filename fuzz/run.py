#!/usr/bin/env python3
"""Runs every fuzz driver for SECONDS on the committed corpus plus what it finds: run.py BUILD SECONDS."""
import pathlib
import subprocess
import sys
import tempfile

build, seconds = pathlib.Path(sys.argv[1]), sys.argv[2]
here = pathlib.Path(__file__).resolve().parent
failed = []
for driver in sorted(build.glob("fuzz/fuzz_*")):
    if driver.suffix or not driver.is_file():
        continue
    name = driver.name.removeprefix("fuzz_")
    with tempfile.TemporaryDirectory() as found:
        done = subprocess.run([driver, f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=2048", "-max_len=65536", found,
                               here / "corpus" / name], capture_output=True, text=True)
    last = [line for line in done.stderr.splitlines() if "DONE" in line or "stat::" in line or "Done" in line]
    print(f"{name}: {'failed' if done.returncode else last[-1] if last else 'done'}", flush=True)
    if done.returncode:
        failed.append(name)
        print(done.stderr[-3000:])
sys.exit(1 if failed else 0)
