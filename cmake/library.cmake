# The library: one set of objects, linked into a shared and a static library.

# Globbed per layer, not listed: a new file needs no edit here, and CONFIGURE_DEPENDS makes every
# build look again, so that none is forgotten.
file(GLOB pica_sources CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     "${PROJECT_SOURCE_DIR}/runtime/base/*.c"
     "${PROJECT_SOURCE_DIR}/runtime/base/sim/*.c"
     "${PROJECT_SOURCE_DIR}/io/engine/*.c"
     "${PROJECT_SOURCE_DIR}/runtime/*.c"
     "${PROJECT_SOURCE_DIR}/sync/*.c"
     "${PROJECT_SOURCE_DIR}/io/*.c")
pica_planted(pica_sources)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
    set(pica_arch x86_64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(pica_arch aarch64)
else()
    message(FATAL_ERROR "Pica has no context switch for ${CMAKE_SYSTEM_PROCESSOR}")
endif()
set(pica_assembly runtime/base/context_${pica_arch}.S runtime/base/barrier_${pica_arch}.S)

# Position independent once, for both libraries: compiling everything twice would double the build,
# and the linker turns most of the cost back when the archive goes into a program.
add_library(pica_objects OBJECT ${pica_sources} ${pica_assembly})
set_target_properties(pica_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(pica_objects PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/include")
target_link_libraries(pica_objects PRIVATE PkgConfig::PICA_URING Threads::Threads)
pica_library_flags(pica_objects)

add_library(pica SHARED $<TARGET_OBJECTS:pica_objects>)
add_library(pica::pica ALIAS pica)
set_target_properties(pica PROPERTIES
    LINKER_LANGUAGE C
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}
    LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/pica.map")
target_link_options(pica PRIVATE "LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/pica.map")
target_link_libraries(pica PRIVATE PkgConfig::PICA_URING Threads::Threads)
pica_link_flags(pica)

add_library(pica_static STATIC $<TARGET_OBJECTS:pica_objects>)
add_library(pica::static ALIAS pica_static)
set_target_properties(pica_static PROPERTIES
    LINKER_LANGUAGE C
    OUTPUT_NAME pica
    EXPORT_NAME static)
target_link_libraries(pica_static PUBLIC
    Threads::Threads $<BUILD_INTERFACE:PkgConfig::PICA_URING> $<INSTALL_INTERFACE:uring>)

foreach(target IN ITEMS pica pica_static)
    target_include_directories(${target} PUBLIC
        "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
        "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
    target_compile_features(${target} INTERFACE c_std_11)
    if(pica_lto)
        set_target_properties(${target} PROPERTIES INTERPROCEDURAL_OPTIMIZATION ON)
    endif()
endforeach()

# jemalloc goes into programs, never into the library (a library linked to Debian's jemalloc cannot
# be dlopened): pica_alloc finds its functions as weak symbols at start.
include("${PROJECT_SOURCE_DIR}/cmake/jemalloc.cmake")
