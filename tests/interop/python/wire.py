"""What every Python program here prints, and how it learns that it shall stop."""

import json
import sys
import threading
import time

READ_SECONDS_MAX = 90


def hexadecimal(value):
    return None if value is None else bytes(value).hex()


def dump(topic, partition, offset, key, value, headers, timestamp):
    """One record as one line of JSON: the form that the Rust side compares byte for byte."""
    fields = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "key": hexadecimal(key),
        "value": hexadecimal(value),
        "headers": [[name, hexadecimal(content)] for name, content in headers or []],
        "timestamp": timestamp,
    }
    sys.stdout.write(json.dumps(fields, separators=(",", ":"), ensure_ascii=False) + "\n")


_line = threading.Lock()


def event(kind, *words):
    """One line of a group member's diary: when (microseconds of the wall clock), what, and on what."""
    with _line:
        sys.stdout.write(" ".join(["@", str(time.time_ns() // 1000), kind, *map(str, words)]) + "\n")
        sys.stdout.flush()


def numbers(partitions):
    return ",".join(str(partition) for partition in sorted(partitions)) or "-"


def stop_when_stdin_closes():
    """An event that is set when the test closes our stdin, or dies."""
    stop = threading.Event()

    def watch():
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    return stop


class Deadline:
    """Fails a reader that waits for records which never come."""

    def __init__(self):
        self.end = time.monotonic() + READ_SECONDS_MAX

    def check(self, seen, wanted):
        if time.monotonic() > self.end:
            sys.exit(f"read {seen} of {wanted} records in {READ_SECONDS_MAX} s")
