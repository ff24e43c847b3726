# pica::jemalloc, for programs: target_link_libraries(program pica::pica pica::jemalloc).
# Included by the build and installed beside the package config; defines the target when Debian's
# libjemalloc-dev, or another jemalloc, is found, and leaves it out otherwise.
find_library(PICA_JEMALLOC_LIBRARY jemalloc)
mark_as_advanced(PICA_JEMALLOC_LIBRARY)
if(PICA_JEMALLOC_LIBRARY AND NOT TARGET pica::jemalloc)
    add_library(pica::jemalloc INTERFACE IMPORTED GLOBAL)
    # The sanitizers bring an allocator of their own.
    if(NOT PICA_SANITIZE)
        # Kept also where the linker drops libraries that no symbol asks for (--as-needed): a program
        # that never calls malloc itself still wants the library's allocations to go there.
        set_property(TARGET pica::jemalloc PROPERTY INTERFACE_LINK_LIBRARIES
            "-Wl,--push-state,--no-as-needed,${PICA_JEMALLOC_LIBRARY},--pop-state")
    endif()
endif()
