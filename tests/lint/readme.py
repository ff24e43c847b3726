#!/usr/bin/env python3
"""Checks the documentation. Usage: readme.py --cc CC --library libpica.so ROOT

Every name, path and link in README.md and docs/*.md must exist, by the rules of architecture.py. Every
block marked ```c must compile without a warning; <pica.h> is included for it. One with a main of its own
is linked and run, and must end with 0. The first block of README.md is the echo server: it is started on
a free port, and a client must get its bytes back.
"""
import argparse
import os
import pathlib
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time

import architecture

BLOCK = re.compile(r"^```c\n(.*?)^```$", re.M | re.S)
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
LIMIT = 30.0  # seconds, for everything that should take none
PORT = "7007"  # in the text of README.md


def blocks(path):
    """Yields (number of the line of the block's first line, its text)."""
    text = path.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        yield text[:match.start(1)].count("\n") + 1, match.group(1)


def has_main(text):
    return re.search(r"^int main\(", text, re.M) is not None


class Builder:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder

    def build(self, name, line, text):
        """Compiles a block, and links it if it is a program. Returns the program's path or None."""
        source, program = self.folder / "block.c", self.folder / "block"
        source.write_text(f'#include <pica.h>\n#line {line} "{name}"\n{text}')
        command = shlex.split(self.args.cc) + FLAGS + ["-I", str(self.args.root / "include"), str(source)]
        if has_main(text):
            library = self.args.library.resolve()
            command += ["-o", str(program), str(library), f"-Wl,-rpath,{library.parent}"]
        else:
            command.append("-fsyntax-only")
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return program if has_main(text) else None


def run(program):
    done = subprocess.run([program], capture_output=True, text=True, timeout=LIMIT)
    if done.returncode != 0:
        raise AssertionError(f"ended with {done.returncode}: {done.stdout}{done.stderr}")


def connect(port, process):
    """A client of a server that was just started."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        except ConnectionRefusedError:
            # It does not say when it listens: ask until it does, or ends.
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server does not listen: {process.communicate()}") from None
            time.sleep(0.01)


def check_echo(program, port):
    process = subprocess.Popen([program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        data = os.urandom(100000)
        with connect(port, process) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            found = bytearray()
            while part := client.recv(1 << 16):
                found += part
        if bytes(found) != data:
            raise AssertionError(f"{len(data)} bytes were sent, {len(found)} came back, or others")
    finally:
        process.kill()
        process.communicate()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def check_block(builder, name, line, text, echo):
    if not echo:
        program = builder.build(name, line, text)
        if program:
            run(program)
        return
    if text.count(PORT) != 1 or not has_main(text):
        raise AssertionError(f"the example is no program that listens on {PORT}")
    port = free_port()
    check_echo(builder.build(name, line, text.replace(PORT, str(port))), port)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cc", required=True)
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("root", type=pathlib.Path)
    args = parser.parse_args()
    faults, count = 0, 0
    words = architecture.words_of(args.root)
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(args, pathlib.Path(folder))
        if not list(blocks(args.root / "README.md")):
            faults += 1
            print("README.md has no example")
        for path in [args.root / "README.md", *sorted((args.root / "docs").glob("*.md"))]:
            name = str(path.relative_to(args.root))
            for fault in architecture.check_document(args.root, name, words, spans=True)[0]:
                faults += 1
                print(fault)
            for line, text in blocks(path):
                count += 1
                try:
                    check_block(builder, name, line, text, echo=count == 1 and name == "README.md")
                except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                    faults += 1
                    print(f"{name}:{line}: {error}")
    print(f"{count} blocks, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
