#!/usr/bin/env python3
"""The UDP echo server: what is sent comes back whole, or cut to --size, to each of many clients."""
import asyncio
import pathlib
import random
import signal
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))
import example  # noqa: E402


def have_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
        return True
    except OSError:
        return False


class Client(asyncio.DatagramProtocol):
    """Keeps what comes in a queue."""

    def __init__(self):
        self.answers = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, _address):
        self.answers.put_nowait(data)

    def error_received(self, error):
        self.answers.put_nowait(error)

    async def ask(self, data):
        self.transport.sendto(data)
        return await asyncio.wait_for(self.answers.get(), example.LIMIT)


class UdpEcho(example.Case):
    def server(self, *arguments, **options):
        return example.Server("pica-udp-echo", *arguments, workers=self.workers, **options)

    def with_clients(self, server, count, body):
        """Runs body(clients) on asyncio's loop."""
        async def run():
            loop = asyncio.get_running_loop()
            pairs = [await loop.create_datagram_endpoint(
                Client, remote_addr=(server.host, server.port)) for _ in range(count)]
            try:
                await body([client for _, client in pairs])
            finally:
                for transport, _ in pairs:
                    transport.close()
        asyncio.run(run())

    def test_sizes(self):
        chance = random.Random(1)

        async def body(clients):
            for size in (1, 2, 1472, 1473, 9000, 65507):
                data = chance.randbytes(size)
                self.assertEqual(await clients[0].ask(data), data)
        with self.server() as server:
            self.with_clients(server, 1, body)

    def test_empty(self):
        """By a plain socket: asyncio sends no empty datagrams."""
        with self.server() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(example.LIMIT)
            sock.connect((server.host, server.port))
            for data in (b"", b"x", b""):
                sock.send(data)
                self.assertEqual(sock.recv(10), data)

    def test_many_clients(self):
        async def talk(client, number):
            chance = random.Random(number)
            for _ in range(20):
                data = chance.randbytes(chance.randrange(1, 1400))
                self.assertEqual(await client.ask(data), data)

        async def body(clients):
            await asyncio.gather(*(talk(client, i) for i, client in enumerate(clients)))
        with self.server() as server:
            self.with_clients(server, 100, body)

    def test_a_burst_of_each(self):
        """Several under way for each client: all come back, each to its own."""
        async def body(clients):
            for number, client in enumerate(clients):
                for i in range(8):
                    client.transport.sendto(b"%d %d" % (number, i))
            for number, client in enumerate(clients):
                found = {await asyncio.wait_for(client.answers.get(), example.LIMIT)
                         for _ in range(8)}
                self.assertEqual(found, {b"%d %d" % (number, i) for i in range(8)})
        with self.server() as server:
            self.with_clients(server, 10, body)

    def test_truncation(self):
        async def body(clients):
            data = random.Random(2).randbytes(3000)
            for size in (999, 1000, 1001, 3000):
                self.assertEqual(await clients[0].ask(data[:size]), data[:min(size, 1000)])
        with self.server("--size", "1000") as server:
            self.with_clients(server, 1, body)

    def test_ipv6(self):
        if not have_ipv6():
            self.skipTest("no IPv6 here")

        async def body(clients):
            self.assertEqual(await clients[0].ask(b"six"), b"six")
        with self.server(host="::1") as server:
            self.with_clients(server, 1, body)

    def test_a_client_that_is_gone(self):
        """Answers that nobody takes harm nobody else."""
        async def body(clients):
            for i in range(50):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.sendto(b"gone", (clients[0].host, clients[0].port))
                self.assertEqual(await clients[0].ask(b"%d" % i), b"%d" % i)

        with self.server() as server:
            def named(clients):
                clients[0].host, clients[0].port = server.host, server.port
                return body(clients)
            self.with_clients(server, 1, named)

    def test_port_in_use(self):
        with self.server() as server:
            with self.assertRaisesRegex(AssertionError, "no 'listening'"):
                self.server("--port", str(server.port))

    def test_ends_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.server() as server:
                server.term(number)
                self.assertLess(server.wait(), 10)


if __name__ == "__main__":
    example.main(globals(), "pica-udp-echo")
