#!/usr/bin/env python3
"""Bad links between network namespaces: usage: links.py BUILD [--seconds S] [--seed N]

This process moves into a network namespace of its own, the server into another, and a veth pair joins them; nftables
(in the server's) makes the link bad: packets are lost both ways; connections are reset at random, in either
direction, and by `ss -K`; peers vanish for good after they connected. TCP repairs losses, so every stream must arrive
byte for byte; a reset one must have been right as far as it came; of vanished peers the HTTP example must be rid
within its limits. Afterwards the server has the descriptors that it had before.
"""

import os
import shutil
import socket
import subprocess
import sys
import time

import faults
from faults import serving

INSIDE = "PICA_FAULTS_LINKS"
HERE, THERE = "10.213.7.1", "10.213.7.2"
TOOLS = "unshare", "nsenter", "ip", "nft"
IDLE = 0.5
HTTP, ECHO = "pica-http-server", "pica-echo-server"


class Link:
    """Two namespaces: this process's, and that of a process that sleeps."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        self.there = ["nsenter", "-t", str(self.holder.pid), "-n"]
        own = os.stat("/proc/self/ns/net").st_ino
        end = time.monotonic() + serving.LIMIT
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == own and time.monotonic() < end:
            time.sleep(0.005)
        self.run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(self.holder.pid))
        self.run("ip", "address", "add", HERE + "/24", "dev", "here")
        for name in ("lo", "here"):
            self.run("ip", "link", "set", name, "up")
        self.inside("ip", "address", "add", THERE + "/24", "dev", "there")
        for name in ("lo", "there"):
            self.inside("ip", "link", "set", name, "up")

    def run(self, *command):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def inside(self, *command):
        self.run(*self.there, *command)

    def rule(self, text):
        """One rule for what comes and what goes at the server; None: the link is good."""
        lines = ["flush ruleset"]
        if text is not None:
            lines.append("table inet faults {")
            for hook in ("input", "output"):
                lines += [f"chain {hook} {{", f"type filter hook {hook} priority 0", f"meta l4proto tcp {text}", "}"]
            lines.append("}")
        subprocess.run([*self.there, "nft", "-f", "-"], input="\n".join(lines), check=True, text=True)

    def hits(self):
        """Packets that the rule has struck so far."""
        listed = subprocess.run([*self.there, "nft", "list", "ruleset"], capture_output=True, text=True, check=True)
        words = listed.stdout.split()
        return sum(int(words[i + 2]) for i in range(len(words) - 2) if words[i:i + 2] == ["counter", "packets"])

    def close(self):
        self.holder.kill()
        self.holder.wait()


def server_of(run, link, name):
    limits = ("--idle", str(IDLE)) if name == HTTP and link.short else ()
    server = serving.Server(run.example(name), "--host", THERE, *limits, workers=run.chance.choice((1, 2, 3)),
                            prefix=link.there, environment={"PICA_ENGINE": run.engine()})
    server.address = (THERE, server.address[1])
    return server


def flows_for(run, name, count, size):
    return [faults.FLOWS[name](run.chance, size) for _ in range(count)]


def lossy(run, link, name, percent):
    row = run.row("4 5 18 lost packets", f"nftables drops both ways, {name}")
    link.short = False
    with server_of(run, link, name) as server:
        before = server.descriptors()
        link.rule(f"numgen random mod 100 < {percent} counter drop")
        outcomes = faults.converse(server.address, flows_for(run, name, 16, 100000))
        dropped = link.hits()
        link.rule(None)
        faults.log(f"{name}: {percent} % lost, {dropped} packets: {dict(outcomes)}")
        run.count(row, dropped, faults.wrongs(outcomes) + faults.settled(server, before), f"{name}, {percent} % lost")


def resets(run, link, name, per_mille):
    row = run.row("4 14 16 18 resets", f"nftables rejects with resets, {name}")
    # What the client is told of is gone there at once; the server may have heard nothing, so it needs a limit.
    link.short = True
    with server_of(run, link, name) as server:
        before = server.descriptors()
        link.rule(f"numgen random mod 1000 < {per_mille} counter reject with tcp reset")
        outcomes = faults.converse(server.address, flows_for(run, name, 24, 200000), patience=2.0)
        struck = link.hits()
        link.rule(None)
        # A reset on its way out tells the server's socket only: its client waits for what nobody will send.
        wrong = faults.wrongs(outcomes, (faults.DONE, faults.LOST, faults.HUNG))
        if name == ECHO:
            # One that waits for a peer which is gone, with nothing to send, waits as long as its system does.
            subprocess.run([*link.there, "ss", "-K", "-t", "state", "connected"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
        faults.log(f"{name}: {struck} resets: {dict(outcomes)}")
        run.count(row, struck, wrong + faults.settled(server, before), f"{name}, resets")


def can_kill(link):
    """Whether this kernel destroys sockets for ss."""
    listener = socket.create_server((HERE, 0))
    with listener, socket.create_connection(listener.getsockname()) as sock:
        subprocess.run(["ss", "-K", "-t", "dst", HERE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=False)
        sock.settimeout(0.2)
        try:
            return sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


def killed(run, link, name):
    """Connections are destroyed in the middle of their work, by the server's own kernel."""
    row = run.row("4 14 16 18 resets", f"ss -K, {name}")
    link.short = False
    with server_of(run, link, name) as server:
        before = server.descriptors()
        link.rule("numgen random mod 100 < 10 counter drop")  # so that they last
        state = {"next": time.monotonic() + 0.05, "killed": 0}

        def strike():
            if time.monotonic() > state["next"]:
                out = subprocess.run([*link.there, "ss", "-K", "-t", "-H", "state", "established"],
                                     capture_output=True, text=True, check=False).stdout
                state["killed"] += len(out.splitlines())
                state["next"] = time.monotonic() + 1.0

        outcomes = faults.converse(server.address, flows_for(run, name, 16, 200000), 2.0, strike)
        link.rule(None)
        subprocess.run([*link.there, "ss", "-K", "-t", "state", "connected"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)
        faults.log(f"{name}: {state['killed']} killed: {dict(outcomes)}")
        # The reset that tells the client is a packet, too.
        wrong = faults.wrongs(outcomes, (faults.DONE, faults.LOST, faults.HUNG)) + faults.settled(server, before)
        run.count(row, state["killed"], wrong, f"{name}, killed")


def vanished(run, link):
    """Peers that connect, get as far as they get, and are never heard of again."""
    row = run.row("14 18 28 half-open peers", f"nftables drops all for good, {HTTP}")
    link.short = True
    beginnings = (b"", b"GET / HT", b"POST /echo HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc", serving.GET,
                  serving.GET * 20000, serving.post(b"x" * 100000)[0])
    with server_of(run, link, HTTP) as server:
        before = server.descriptors()
        socks = []
        for i in range(24):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(server.address)
            sock.setblocking(False)
            try:
                sock.send(beginnings[i % len(beginnings)])
            except BlockingIOError:
                pass
            socks.append(sock)
        end = time.monotonic() + serving.LIMIT
        while (there := server.descriptors()) < before + len(socks) and time.monotonic() < end:
            time.sleep(0.005)
        assert there >= before + len(socks), f"only {there - before} of {len(socks)} clients were accepted"
        link.rule("counter drop")
        start = time.monotonic()
        wrong = faults.settled(server, before)
        took = time.monotonic() - start
        # The rest of a head or body, its answer, and the time to read that: each has the limit.
        wrong += [f"rid of them after {took:.1f} s"] if took > 4 * IDLE + 3.0 else []
        link.rule(None)
        faults.log(f"{HTTP}: rid of {len(socks)} half-open peers after {took:.1f} s")
        for sock in socks:
            sock.close()
        run.count(row, len(socks), wrong, "half-open peers")


def impossible(run):
    """Moves into a namespace of our own, by starting again; why not, if it cannot be."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return "not on PATH: " + " ".join(missing)
    if INSIDE in os.environ:
        return None
    wanted = ("ip link set lo up && ip link add name v0 type veth peer name v1 && nft 'table inet t { chain c { "
              "numgen random mod 100 < 5 counter drop; tcp dport 1 reject with tcp reset; }; }'")
    tried = subprocess.run(["unshare", "-n", "sh", "-c", wanted], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"no network namespaces with nftables here: {tried.stderr.strip()[:80]}"
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable, "-B", *sys.argv, "--seed", str(run.options.seed)])
    return None


def main():
    run = faults.Run(__doc__, 30)
    why = impossible(run)
    if why is not None:
        run.skip("4 5 14 16 18 28 bad links", "network namespaces, nftables", why)
        run.finish()
    link = Link()
    try:
        kills = shutil.which("ss") is not None and can_kill(link)
        if not kills:
            run.skip("4 14 16 18 resets", "ss -K", "no ss on PATH, or this kernel does not destroy sockets for it")
        while True:
            for name in [run.chance.choice((ECHO, HTTP))] if run.short else (ECHO, HTTP):
                lossy(run, link, name, run.chance.choice((2, 5) if run.short else (2, 5, 10)))
                resets(run, link, name, 10)
                if kills:
                    killed(run, link, name)
            vanished(run, link)
            if run.time_left() < run.options.seconds / 2:
                break
    finally:
        link.close()
    run.finish()


if __name__ == "__main__":
    sys.exit(main())
