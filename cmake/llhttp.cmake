# llhttp, Node's HTTP parser: Debian's node-llhttp package has its C sources and its header. What is built of it:
#
#   pica_add_llhttp(TARGET)  a static library for the programs of the folder that calls this
#
# llhttp is generated code that says nothing about what is usual. Where gcc optimizes, it is given a profile, which saves
# a third of its time in a server (docs/ENGINE_CHOICES.md, 6): examples/llhttp/train.c, which parses what servers meet,
# is built with counters and run, as a part of the build.
find_path(PICA_LLHTTP_SOURCE llhttp.c PATHS /usr/share /usr/local/share PATH_SUFFIXES llhttp)
find_path(PICA_LLHTTP_INCLUDE llhttp.h
    PATHS /usr/share/include /usr/local/share/include PATH_SUFFIXES llhttp)
mark_as_advanced(PICA_LLHTTP_INCLUDE PICA_LLHTTP_SOURCE)
set(pica_have_llhttp OFF)
if(PICA_LLHTTP_INCLUDE AND PICA_LLHTTP_SOURCE)
    set(pica_have_llhttp ON)
endif()

# The names by which gcc finds the profile of a function contain the name of the object: both builds are told the
# same one, that of the profile. pica_llhttp_dump(NAME): the options for llhttp's NAME.c.
set(pica_llhttp_profile "${PROJECT_BINARY_DIR}/examples/llhttp/profile")
set(pica_llhttp_parts llhttp http) # not api.c, which is not the same in every program
function(pica_llhttp_dump out name)
    set(${out} "-dumpdir;${pica_llhttp_profile}/;-dumpbase;${name}.c;-dumpbase-ext;.c" PARENT_SCOPE)
endfunction()
set(pica_llhttp_trained OFF)
if(pica_have_llhttp AND pica_lto AND NOT CMAKE_CROSSCOMPILING)
    set(pica_llhttp_trained ON)
    add_subdirectory("${PROJECT_SOURCE_DIR}/examples/llhttp" "${PROJECT_BINARY_DIR}/examples/llhttp")
endif()

function(pica_add_llhttp target)
    add_library(${target} STATIC
        "${PICA_LLHTTP_SOURCE}/api.c" "${PICA_LLHTTP_SOURCE}/http.c" "${PICA_LLHTTP_SOURCE}/llhttp.c")
    target_include_directories(${target} SYSTEM PUBLIC "${PICA_LLHTTP_INCLUDE}")
    target_compile_options(${target} PRIVATE -w)
    # The parser calls the program for all that it finds, and its parts each other.
    set_target_properties(${target} PROPERTIES INTERPROCEDURAL_OPTIMIZATION ${pica_lto})
    if(NOT pica_llhttp_trained)
        return()
    endif()
    add_dependencies(${target} pica_llhttp_profile)
    foreach(name IN LISTS pica_llhttp_parts)
        pica_llhttp_dump(dump ${name})
        # What is usual is compared first, so a table of jumps would only be one guess more. Parts that the profile
        # takes for unused stay with the others: some are of every request, on pages of their own.
        set_source_files_properties("${PICA_LLHTTP_SOURCE}/${name}.c" PROPERTIES
            COMPILE_OPTIONS "-fprofile-use;-fno-jump-tables;-fno-reorder-blocks-and-partition;${dump}"
            OBJECT_DEPENDS "${pica_llhttp_profile}/${name}.gcda")
    endforeach()
endfunction()
