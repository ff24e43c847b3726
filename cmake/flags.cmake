# Compiler flags. Set on targets, never on directories, so that nothing reaches a project that adds
# Pica as a subdirectory; warnings become errors only through PICA_WERROR, which the presets set.
include(CheckCCompilerFlag)
include(CheckLinkerFlag)

set(pica_warnings
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wundef -Wformat=2 -Wpointer-arith -Wvla
    -Wimplicit-fallthrough)
set(pica_c_warnings -Wstrict-prototypes -Wmissing-prototypes)

# A stack grows into its guard page by page, so that a large frame cannot jump over it.
check_c_compiler_flag("-Werror -fstack-clash-protection" PICA_HAVE_STACK_CLASH)
# Landing pads for indirect branches. The shadow stack half of it is not promised by the library:
# the context switch has no note, and the linker keeps only what every object promises.
check_c_compiler_flag("-Werror -fcf-protection=full" PICA_HAVE_CF_PROTECTION)
check_c_compiler_flag("-Werror -mbranch-protection=standard" PICA_HAVE_BRANCH_PROTECTION)
# Calls between the public functions of the library need no detour through the PLT.
check_c_compiler_flag("-Werror -fno-semantic-interposition" PICA_HAVE_NO_INTERPOSITION)
check_c_compiler_flag("-Werror -falign-jumps=1 -falign-labels=1" PICA_HAVE_ALIGN_JUMPS) # gcc

# A request crosses many small functions of several files, so the library gains from it, and so does
# the example with the HTTP parser; nothing else does. Not where it would blur what a debugger or a
# sanitizer shows.
set(pica_lto OFF)
# With gcc only: the archive must be of use to every linker, and clang makes no objects with both kinds
# of code.
if(PICA_LTO AND NOT PICA_SANITIZE
   AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE MATCHES "^(Release|RelWithDebInfo)$")
    include(CheckIPOSupported)
    check_ipo_supported(RESULT pica_lto LANGUAGES C)
endif()

# Warnings, language level and sanitizers: for everything that is built here.
function(pica_common_flags target)
    set_target_properties(${target} PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS ON
        CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON)
    # Warnings are for those who can mend them: not for a project that only adds the library.
    if(PROJECT_IS_TOP_LEVEL)
        target_compile_options(${target} PRIVATE
            "$<$<COMPILE_LANGUAGE:C,CXX>:${pica_warnings}>"
            "$<$<COMPILE_LANGUAGE:C>:${pica_c_warnings}>"
            "$<$<BOOL:${PICA_WERROR}>:-Werror>")
    endif()
    if(PICA_HAVE_STACK_CLASH)
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-fstack-clash-protection>)
    endif()
    if(PICA_FUZZ) # counts what is reached; the programs of tests/fuzz bring who asks for it
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=fuzzer-no-link>)
        target_link_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
    if(PICA_SANITIZE)
        target_compile_options(${target} PRIVATE
            -fsanitize=${PICA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
        target_link_options(${target} PRIVATE -fsanitize=${PICA_SANITIZE})
    else()
        # glibc checks buffer sizes where it can see them; it does nothing without optimization.
        target_compile_options(${target} PRIVATE
            "$<$<AND:$<COMPILE_LANGUAGE:C,CXX>,$<NOT:$<CONFIG:Debug>>>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>")
    endif()
endfunction()

# Between two requests the kernel takes the caches, so what counts is how many lines of code one needs: no room is left
# before jumps' targets.
function(pica_compact_code target)
    if(PICA_HAVE_ALIGN_JUMPS)
        target_compile_options(${target} PRIVATE
            "$<$<AND:$<COMPILE_LANGUAGE:C>,$<CONFIG:Release,RelWithDebInfo>>:-falign-jumps=1;-falign-labels=1;-falign-loops=1>")
    endif()
endfunction()

# The library, its tests and the benchmarks; the examples are built as a user would build them.
function(pica_internal_flags target)
    pica_common_flags(${target})
    # PICA__DEBUG is 1 in debug builds: shuffled order, poisoned stacks and other costly checks.
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE PICA__DEBUG=$<CONFIG:Debug>)
endfunction()

# What the objects of the library need besides.
function(pica_library_flags target)
    pica_internal_flags(${target})
    # Messages name files from the root of the tree, wherever it was built.
    target_compile_options(${target} PRIVATE -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
    set_target_properties(${target} PROPERTIES C_VISIBILITY_PRESET hidden)
    if(PICA_FUZZ) # following each comparison halves the speed of a simulation, and no input meets constants in there
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-fno-sanitize-coverage=trace-cmp>)
    endif()
    if(PICA_HAVE_CF_PROTECTION AND NOT PICA_SANITIZE)
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-fcf-protection=full>)
    endif()
    if(PICA_HAVE_BRANCH_PROTECTION)
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-mbranch-protection=standard>)
    endif()
    # -O3: a request is a walk through many small functions, and what that inlines more is a tenth of the
    # instructions of one (bench/net --counts). After the build type's own -O2, so that it wins.
    target_compile_options(${target} PRIVATE
        "$<$<AND:$<COMPILE_LANGUAGE:C>,$<CONFIG:Release,RelWithDebInfo>>:-O3;-fno-plt>")
    pica_compact_code(${target})
    if(PICA_HAVE_NO_INTERPOSITION)
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-fno-semantic-interposition>)
    endif()
    if(pica_lto)
        set_target_properties(${target} PROPERTIES INTERPROCEDURAL_OPTIMIZATION ON)
    endif()
    if(pica_lto)
        # The installed archive stays usable for programs that are linked without LTO.
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-ffat-lto-objects>)
    endif()
endfunction()

function(pica_link_flags target)
    target_link_options(${target} PRIVATE
        LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack LINKER:-Bsymbolic-functions)
    if(PICA_SANITIZE)
        target_link_options(${target} PRIVATE -fsanitize=${PICA_SANITIZE})
    else()
        # The sanitizers' run-time is in the program only, so this holds only without them.
        target_link_options(${target} PRIVATE LINKER:-z,defs)
    endif()
endfunction()
