"""A running load generator (bench/load/load.c)."""

import json
import os
import subprocess

from .contestants import Failed, parent


class Load:
    def __init__(self, build, cores, spin):
        self.process = subprocess.Popen([os.path.join(build, "bench", "pica-load")],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=parent(cores))
        self.ask("spin %d" % spin)

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit("the load generator ended while it was asked: " + line)
        answer = json.loads(answer)
        if "error" in answer:
            raise Failed("%s: %s" % (line, answer["error"]))
        return answer

    def open(self, port, workload, connections, pipeline, size):
        line = "open 127.0.0.1 %d %s %d %d %d" % (port, workload, connections, pipeline, size)
        return self.ask(line)["index"]

    def slice(self, index, rate, ms):
        return self.ask("slice %d %d %d" % (index, rate, ms))

    def lockstep(self, index, requests):
        answer = self.ask("lockstep %d %d" % (index, requests))
        if answer["done"] != requests or answer["errors"] or answer["mismatch"]:
            raise Failed("lockstep: %(done)d answers, %(errors)d errors, "
                         "%(mismatch)d wrong bytes" % answer)
        return answer

    def close(self, index):
        self.ask("close %d" % index)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
