"""An echo server with thousands of idle connections does nothing.

usage: idle_connections.py PROGRAM [--connections N] [--seconds S] [--workers W,...]

Starts the echo example (PROGRAM --port 0), opens the connections, sends a message over each and reads it
back, as a load run, then lets them idle. The kernel counts for each thread of the server how often it
went to sleep; in the given time the counts must not change. Afterwards every connection must still
answer. Exit status: 0 all held, 1 not, 77 not possible here.
"""

import argparse
import os
import resource
import selectors
import socket
import subprocess
import sys
import time


def switches(pid):
    """Voluntary context switches of each thread of a process."""
    counts = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("voluntary_ctxt_switches:"):
                    counts[int(tid)] = int(line.split()[1])
    return counts


def settle(pid):
    """Waits until the counts have stood still for half a second."""
    end = time.monotonic() + 30
    before = switches(pid)
    while time.monotonic() < end:
        time.sleep(0.5)
        now = switches(pid)
        if now == before:
            return now
        before = now
    raise AssertionError("the server did not come to rest after the load")


def echo_all(connections, message):
    """Sends a message over all connections at once and reads it back from each."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        connection.sendall(message)
        selector.register(connection, selectors.EVENT_READ, bytearray())
    missing = len(connections)
    end = time.monotonic() + 60
    while missing > 0:
        ready = selector.select(timeout=max(0.0, end - time.monotonic()))
        assert ready, f"{missing} connections got no answer"
        for key, _ in ready:
            data = key.fileobj.recv(65536)
            assert data, "the server closed a connection"
            key.data.extend(data)
            if len(key.data) >= len(message):
                assert bytes(key.data) == message, "wrong answer"
                selector.unregister(key.fileobj)
                missing -= 1
    selector.close()


def connect_all(port, count):
    """Opens connections from several addresses of the loopback network, so that ports suffice."""
    connections = []
    for i in range(count):
        connection = socket.socket()
        connection.bind((f"127.0.0.{2 + i // 10000}", 0))
        connection.connect(("127.0.0.1", port))
        connections.append(connection)
    return connections


def check(program, workers, count, seconds):
    """One server: load, rest, load. Returns whether it was still in between."""
    environment = dict(os.environ, PICA_WORKERS=str(workers))
    server = subprocess.Popen([program, "--port", "0"], stdout=subprocess.PIPE, env=environment)
    connections = []
    try:
        words = server.stdout.readline().split()
        assert words and words[0] == b"listening", "the server did not say that it listens"
        connections = connect_all(int(words[1]), count)
        for i in range(5):
            echo_all(connections, b"message %d\n" % i)
        before = settle(server.pid)
        time.sleep(seconds)
        after = switches(server.pid)
        woken = {tid: after.get(tid, -1) - n for tid, n in before.items() if after.get(tid) != n}
        still = not woken and set(before) == set(after)
        echo_all(connections, b"still there?\n")
        print(f"{workers} workers, {count} idle connections, {seconds:g} s: "
              f"{'no thread woke' if still else f'woken: {woken}'}", flush=True)
        return still
    finally:
        for connection in connections:
            connection.close()
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", default="1,2,8")
    options = parser.parse_args()
    need = options.connections + 200
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < need:
        print(f"skipped: needs {need} descriptors, the limit is {hard}")
        return 77
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    still = [check(options.program, int(w), options.connections, options.seconds)
             for w in options.workers.split(",")]
    return 0 if all(still) else 1


if __name__ == "__main__":
    sys.exit(main())
