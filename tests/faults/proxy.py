"""A proxy between clients and a server that is as bad as a network can be, for peers.py; in this process, as a thread.

Each connection gets a manner of its own, drawn from a seed: pieces of one byte, pieces of any size, pauses between
them, a long stall, and sometimes an early end: closed, half-closed, or reset, in the middle of whatever it is. What
goes through goes through unchanged and in order, so a connection that it did not end must be right to the last byte.
"""

import random
import selectors
import socket
import struct
import threading
import time

RESET = struct.pack("ii", 1, 0)
STEP = 0.002  # seconds between two looks at what is due


class Way:
    """One direction of a connection."""

    def __init__(self, source, target, piece, pause):
        self.source, self.target, self.piece, self.pause = source, target, piece, pause
        self.held = bytearray()  # received, not sent on
        self.due = 0.0
        self.ended = self.finished = False

    def receive(self):
        if not self.ended and len(self.held) < 1 << 16:
            data = self.source.recv(1 << 16)
            self.held += data
            self.ended = not data

    def send(self, chance, now):
        """Gives the bytes that went on."""
        count = 0
        # A byte at a time, but not only one for each look: that would take for ever.
        for _ in range(64 if self.pause == 0 else 1):
            if not self.held or now < self.due:
                break
            sent = self.target.send(self.held[:chance.randrange(1, self.piece + 1)])
            del self.held[:sent]
            count += sent
            self.due = now + chance.uniform(0, self.pause)
        if self.ended and not self.held and not self.finished:
            self.target.shutdown(socket.SHUT_WR)
            self.finished = True
        return count


class Pair:
    """A connection through the proxy."""

    def __init__(self, client, server, chance):
        self.chance = chance
        piece, pause = chance.choice(((1, 0.0), (3, 0.0), (100, 0.002), (1500, 0.004), (1 << 16, 0.02)))
        self.ways = Way(client, server, piece, pause), Way(server, client, piece, pause)
        self.socks = client, server
        self.left = chance.randrange(1, 30000) if chance.random() < 0.4 else None  # bytes until it is ended
        self.stall_at = chance.randrange(1, 5000) if chance.random() < 0.3 else None
        self.moved = 0

    def step(self, now):
        """False: it is over. How it was ended is in cut: None, as its ends wished."""
        for way in self.ways:
            for act in (way.receive, lambda way=way: self.account(way.send(self.chance, now))):
                try:
                    act()
                except BlockingIOError:
                    pass
                except OSError:
                    return False
        if self.left is not None and self.moved >= self.left:
            if self.chance.random() < 0.5:
                for sock in self.socks:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return False
        return not all(way.finished for way in self.ways)

    def account(self, count):
        self.moved += count
        if self.stall_at is not None and self.moved >= self.stall_at:
            self.stall_at = None
            for way in self.ways:
                way.due = time.monotonic() + self.chance.uniform(0.1, 0.6)


class Proxy:
    """As a context: address is where it listens. cuts: connections that it ended; stalls and pieces are not counted,
    every connection has some."""

    def __init__(self, server, seed):
        self.server, self.chance = server, random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.connections = self.cuts = 0
        self.stopping = False
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def accept(self, pairs):
        try:
            client, _ = self.listener.accept()
        except BlockingIOError:
            return
        client.setblocking(False)
        server = socket.create_connection(self.server)
        server.setblocking(False)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pairs.append(Pair(client, server, random.Random(self.chance.random())))
        self.connections += 1

    def serve(self):
        pairs = []
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            while not self.stopping:
                if selector.select(STEP if pairs else 0.05):
                    self.accept(pairs)
                now = time.monotonic()
                for pair in [pair for pair in pairs if not pair.step(now)]:
                    pairs.remove(pair)
                    self.cuts += pair.left is not None and pair.moved >= pair.left
                    for sock in pair.socks:
                        sock.close()
        for pair in pairs:
            for sock in pair.socks:
                sock.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()
        self.listener.close()
