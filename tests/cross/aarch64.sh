#!/bin/sh
# Compiles the tests of the context switch, the barrier and the stacks for aarch64 and runs them under
# qemu-user. They need only runtime/base/, which knows neither the ring nor any library but libc, so there is no
# need for an aarch64 liburing. Usage: aarch64.sh SOURCE OUTPUT. Exit status 77: tools are missing.
set -eu

source=$1
output=$2
sysroot=/usr/aarch64-linux-gnu

for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    if ! command -v "$tool" > /dev/null; then
        echo "skipped: $tool is missing (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
        exit 77
    fi
done

mkdir -p "$output"
cd "$source"
flags="-std=gnu11 -O2 -g -Wall -Wextra -I. -Iinclude -D_GNU_SOURCE -DPICA__DEBUG=0"
flags="$flags -fstack-clash-protection -mbranch-protection=standard"

objects=
for file in runtime/base/*.c runtime/base/sim/*.c runtime/base/*_aarch64.S tests/support/*.c; do
    object=$output/$(echo "$file" | tr '/' '_').o
    aarch64-linux-gnu-gcc $flags -c "$file" -o "$object"
    objects="$objects $object"
done

for assembly in context barrier; do
    notes=$(aarch64-linux-gnu-readelf --wide -n "$output/runtime_base_${assembly}_aarch64.S.o")
    case $notes in
        *GCS*) echo "$assembly promises to work with a shadow stack"; exit 1 ;;
        *BTI*) ;;
        *) echo "$assembly does not promise landing pads"; exit 1 ;;
    esac
done

for test in context barrier stack; do
    echo "== $test"
    aarch64-linux-gnu-gcc $flags "tests/unit/test_$test.c" $objects -o "$output/test_$test" -pthread -lm
    # Emulation is some ten times slower than the processor.
    PT_TIMEOUT_SCALE=${PT_TIMEOUT_SCALE:-10} qemu-aarch64 -L "$sysroot" "$output/test_$test"
done
