#!/usr/bin/env python3
"""Builds and runs projects outside the tree against the library, one way per call.

  find_package  installs the build into a fresh prefix; C and C++ projects find it there
  pkg_config    the same with pkg-config and a compiler, shared and static
  dlopen        the same with a program that is not linked to it
  subdirectory  a project that adds the source tree

Every program must exit with 0. The prefix is moved after the installation, so that nothing in it may
depend on the place it was installed to.
"""
import argparse
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def run(*command, **options):
    command = [str(part) for part in command]
    print("+", shlex.join(command), flush=True)
    return subprocess.run(command, check=True, timeout=300, **options)


def output(*command, **options):
    return run(*command, text=True, stdout=subprocess.PIPE, **options).stdout


class Use:
    def __init__(self, args, work):
        self.args, self.work = args, work

    def install(self):
        first, prefix = self.work / "first", self.work / "moved"
        run(self.args.cmake, "--install", self.args.build, "--prefix", first,
            stdout=subprocess.DEVNULL)
        first.rename(prefix)
        return prefix

    def project(self, name, *definitions):
        """Configures and builds one consumer project; gives its build folder."""
        build = self.work / ("build-" + name)
        compilers = [f"-DCMAKE_C_COMPILER={self.args.cc}"]
        if self.args.cxx:
            compilers.append(f"-DCMAKE_CXX_COMPILER={self.args.cxx}")
        run(self.args.cmake, "-S", HERE / name, "-B", build, "-DCMAKE_BUILD_TYPE=Release",
            *compilers, *definitions, stdout=subprocess.DEVNULL)
        run(self.args.cmake, "--build", build, "--parallel", "2", stdout=subprocess.DEVNULL)
        return build

    def find_package(self):
        prefix = self.install()
        build = self.project("find_package", f"-DCMAKE_PREFIX_PATH={prefix}")
        run(build / "consumer_shared")
        run(build / "consumer_static")
        linked = output("readelf", "-d", build / "consumer_shared")
        assert "[libpica.so." in linked, linked
        assert "jemalloc" not in linked, linked
        assert "libpica" not in output("readelf", "-d", build / "consumer_static")
        if (build / "consumer_jemalloc").exists():
            run(build / "consumer_jemalloc")
            linked = output("readelf", "-d", build / "consumer_jemalloc")
            assert "jemalloc" in linked, linked
        library = prefix / self.args.libdir / "libpica.so"
        assert "jemalloc" not in output("readelf", "-d", library), "the library links an allocator"
        if self.args.cxx:
            run(self.project("find_package_cxx", f"-DCMAKE_PREFIX_PATH={prefix}") / "consumer_shared")

    def pkg_config(self):
        prefix = self.install()
        libdir = prefix / self.args.libdir
        environment = {**os.environ, "PKG_CONFIG_PATH": str(libdir / "pkgconfig"),
                       "LD_LIBRARY_PATH": str(libdir)}
        flags = shlex.split(output("pkg-config", "--cflags", "--libs", "pica", env=environment))
        every = shlex.split(output("pkg-config", "--static", "--cflags", "--libs", "pica",
                                   env=environment))
        assert "-luring" in every and "-luring" not in flags, (flags, every)
        builds = [(self.args.cc, "consumer.c", "c", flags)]
        # With --static the archive itself takes the place of -lpica.
        archive = [str(libdir / "libpica.a") if flag == "-lpica" else flag for flag in every]
        builds.append((self.args.cc, "consumer.c", "c-static", archive))
        if self.args.cxx:
            builds.append((self.args.cxx, "consumer.cc", "cxx", flags))
        for compiler, source, name, options in builds:
            program = self.work / name
            run(compiler, HERE / source, "-o", program, *options)
            run(program, env=environment)

    def dlopen(self):
        prefix = self.install()
        program = self.work / "host"
        run(self.args.cc, "-O1", HERE / "dlopen" / "main.c", "-o", program, "-ldl")
        assert "libpica" not in output("readelf", "-d", program)
        run(program, prefix / self.args.libdir / "libpica.so")

    def subdirectory(self):
        if not self.args.cxx:
            sys.exit(77)
        build = self.project("subdirectory", f"-DPICA_SOURCE={self.args.source}")
        run(build / "consumer_c")
        run(build / "consumer_cxx")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["find_package", "pkg_config", "dlopen", "subdirectory"])
    parser.add_argument("--cmake", required=True)
    parser.add_argument("--cc", required=True)
    parser.add_argument("--cxx")
    parser.add_argument("--source", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--libdir", required=True)
    args = parser.parse_args()
    # A destination of the caller's would send the installation elsewhere.
    os.environ.pop("DESTDIR", None)
    with tempfile.TemporaryDirectory(prefix="pica-package-") as folder:
        getattr(Use(args, pathlib.Path(folder)), args.way)()


if __name__ == "__main__":
    main()
