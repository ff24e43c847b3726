# Toolchain for a cross build with Debian's gcc-aarch64-linux-gnu and g++-aarch64-linux-gnu:
#   tests/arm64/sysroot build/arm64/sysroot
#   cmake -B build/arm64/build -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DPICA_SYSROOT=$PWD/build/arm64/sysroot
# PICA_SYSROOT has the libraries that the compiler's own folder lacks: liburing, jemalloc. `tools/dev arm64` does all
# of it and runs the tests; the test aarch64_context does without, since the context switch and the stacks need
# only libc.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH ${PICA_SYSROOT} /usr/aarch64-linux-gnu)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PICA_SYSROOT)
if(PICA_SYSROOT)
    # For pkg-config, which knows nothing of CMAKE_FIND_ROOT_PATH.
    set(ENV{PKG_CONFIG_LIBDIR} "${PICA_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig")
    set(ENV{PKG_CONFIG_SYSROOT_DIR} "${PICA_SYSROOT}")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
# PT_EMULATOR tells the tests what they run under (tests/support/pt.h).
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu -E PT_EMULATOR=qemu-user)
