#!/usr/bin/env python3
"""The chat: lines reach all others in order, slow clients are cut, long lines and resets harm nobody."""
import asyncio
import os
import pathlib
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402

MAX_LINE = 1024


class Client:
    """One who talks: what comes is read by lines."""

    def __init__(self, server, name, size=None):
        self.sock = server.connect(size=size)
        self.file = self.sock.makefile("rb")
        self.name = name
        self.expect("* your nickname?")
        if name is not None:
            self.say(name)

    def say(self, text):
        self.sock.sendall(text.encode() + b"\n")

    def line(self):
        return self.file.readline().decode().rstrip("\n")

    def expect(self, *lines):
        for wanted in lines:
            got = self.line()
            if got != wanted:
                raise AssertionError(f"{got!r} instead of {wanted!r}")

    def end(self):
        """Everything up to the end of the stream."""
        return self.file.read()

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.file.close()
        self.sock.close()


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


class Chat(example.Case):
    def server(self, *arguments):
        return example.Server("pica-chat-server", *arguments, workers=self.workers)

    def enter(self, server, name, *others, **options):
        client = Client(server, name, **options)
        client.expect("* welcome")
        for other in others:
            other.expect(f"* {name} joined")
        return client

    def wait_descriptors(self, server, count):
        """Closing happens a little after the peer sees it."""
        end = time.monotonic() + 10
        while descriptors(server) != count and time.monotonic() < end:
            time.sleep(0.01)  # the pace of asking
        self.assertEqual(descriptors(server), count)

    def test_talk(self):
        with self.server() as server:
            before = descriptors(server)
            anna = self.enter(server, "anna")
            ben = self.enter(server, "ben", anna)
            cleo = self.enter(server, "cleo", anna, ben)
            anna.say("hello")
            ben.expect("anna: hello")
            cleo.expect("anna: hello")
            ben.sock.sendall(b"one\r\n\r\n\ntwo\n\x1b[2Jthree\nno end")
            for client in (anna, cleo):
                client.expect("ben: one", "ben: two", "ben:  [2Jthree")
            ben.sock.shutdown(socket.SHUT_WR)
            for client in (anna, cleo):
                client.expect("* ben left")
            self.assertEqual(ben.end(), b"")
            again = self.enter(server, "ben", anna, cleo)
            for client in (anna, ben, cleo, again):
                client.close()
            self.wait_descriptors(server, before)

    def test_nicknames(self):
        with self.server() as server:
            anna = self.enter(server, "anna")
            refused = b"* taken, or not 1 to 20 letters, digits, - and _\n"
            for name in ("anna", "", "a b", "x" * 21, "x\0y", "\u00e4"):
                with self.subTest(name=name):
                    client = Client(server, name)
                    self.assertEqual(client.end(), refused)
                    client.close()
            gone = Client(server, None)
            gone.close()
            ben = self.enter(server, "x" * 20, anna)
            ben.say("here")
            anna.expect("x" * 20 + ": here")
            anna.close()
            ben.close()

    def test_long_lines(self):
        with self.server() as server:
            anna = self.enter(server, "anna")
            ben = self.enter(server, "ben", anna)
            for size in (MAX_LINE + 1, MAX_LINE + 2, 5 * MAX_LINE, 1 << 20):
                anna.say("y" * size)
                anna.say("short")
                ben.expect("anna: short")
                anna.expect("* that line was too long")
            anna.say("z" * MAX_LINE)
            ben.expect("anna: " + "z" * MAX_LINE)
            # In pieces, and its end together with the next line.
            for _ in range(5):
                anna.sock.sendall(b"w" * 900)
            anna.sock.sendall(b"\nnext\n")
            anna.expect("* that line was too long")
            ben.expect("anna: next")
            anna.close()
            ben.close()

    def test_burst(self):
        """Many lines in one piece are no reason to cut those who read: all arrive, in order."""
        count = 3000
        with self.server() as server:
            anna = self.enter(server, "anna")
            ben = self.enter(server, "ben", anna)
            cleo = self.enter(server, "cleo", anna, ben)
            anna.sock.sendall(b"".join(b"%d\n" % i for i in range(count)))
            for client in (ben, cleo):
                client.expect(*(f"anna: {i}" for i in range(count)))
            for client in (anna, ben, cleo):
                client.close()

    def test_slow_reader(self):
        """Who reads nothing is cut, the others get every line meanwhile."""
        with self.server() as server:
            anna = self.enter(server, "anna")
            ben = self.enter(server, "ben", anna)
            slow = self.enter(server, "slow", anna, ben, size=4096)
            before = descriptors(server)
            text, sent, got = "x" * 1000, 0, ""
            while got == "" and sent < 100000:
                for _ in range(50):
                    anna.say(f"{sent} {text}")
                    sent += 1
                for i in range(sent - 50, sent):
                    line = ben.line()
                    if line == "* slow was too slow":
                        got = line
                        line = ben.line()
                    self.assertEqual(line, f"anna: {i} {text}")
            if got == "":
                ben.expect("* slow was too slow")
            self.assertLess(sent, 100000)
            anna.expect("* slow was too slow")
            self.wait_descriptors(server, before - 1)
            try:
                rest = slow.end()
                self.assertLess(len(rest), sent * 1000)
            except ConnectionResetError:
                pass
            for client in (anna, ben, slow):
                client.close()

    def test_abrupt_leaves(self):
        with self.server() as server:
            anna = self.enter(server, "anna")
            before = descriptors(server)
            for i in range(20):
                bad = self.enter(server, f"bad{i}", anna)
                bad.sock.sendall(b"half a line")
                anna.say("are you there?")
                bad.close(reset=True)
                anna.expect(f"* bad{i} left")
            self.wait_descriptors(server, before)
            anna.close()

    def test_limit_of_clients(self):
        with self.server("--clients", "2") as server:
            anna = self.enter(server, "anna")
            ben = self.enter(server, "ben", anna)
            waiting = server.connect()
            waiting.settimeout(0.3)
            with self.assertRaises(socket.timeout):
                waiting.recv(1)
            waiting.settimeout(example.LIMIT)
            ben.close()
            anna.expect("* ben left")
            question = b"* your nickname?\n"
            self.assertEqual(example.read_exactly(waiting, len(question)), question)
            waiting.close()
            anna.close()

    def test_many_clients(self):
        """Each of 60 clients hears every line of the others, each writer's in order."""
        count, lines = 60, 20

        async def meet(place):
            """Waits until all are there."""
            place["missing"] -= 1
            if place["missing"] == 0:
                place["all"].set()
            await place["all"].wait()

        async def client(port, number, joined, done):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.readuntil(b"?\n")
            writer.write(b"n%d\n" % number)
            await reader.readuntil(b"welcome\n")
            await meet(joined)
            writer.write(b"".join(b"%d\n" % i for i in range(lines)))
            heard = [0] * count
            while sum(heard) < (count - 1) * lines:
                who, _, text = (await reader.readline()).decode().strip().partition(": ")
                if who.startswith("*"):
                    self.assertRegex(who, r"\* n\d+ joined")
                    continue
                self.assertEqual(text, str(heard[int(who[1:])]))
                heard[int(who[1:])] += 1
            self.assertEqual(heard[number], 0)
            await meet(done)
            writer.close()
            await writer.wait_closed()

        async def clients(port):
            joined, done = ({"missing": count, "all": asyncio.Event()} for _ in range(2))
            await asyncio.wait_for(asyncio.gather(*(client(port, i, joined, done)
                                                    for i in range(count))), example.LIMIT)

        with self.server() as server:
            before = descriptors(server)
            asyncio.run(clients(server.port))
            self.wait_descriptors(server, before)

    def test_end(self):
        """What was said before the signal arrives; then the end, also for a client that does not read."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.server() as server:
                anna = self.enter(server, "anna")
                ben = self.enter(server, "ben", anna)
                silent = Client(server, None)
                deaf = self.enter(server, "deaf", anna, ben, size=4096)
                ben.say("bye")
                anna.expect("ben: bye")
                server.term(number)
                self.assertLess(server.wait(), 10)
                self.assertEqual((anna.end(), ben.end(), silent.end()), (b"", b"", b""))
                for client in (anna, ben, silent, deaf):
                    client.close()


if __name__ == "__main__":
    example.main(globals(), "pica-chat-server")
