# `cmake --build BUILD --target format` rewrites the sources in the style of .clang-format.
find_program(PICA_CLANG_FORMAT NAMES clang-format-14 clang-format)
mark_as_advanced(PICA_CLANG_FORMAT)
if(PICA_CLANG_FORMAT)
    file(GLOB_RECURSE pica_formatted CONFIGURE_DEPENDS
        "${PROJECT_SOURCE_DIR}/include/*.h"
        "${PROJECT_SOURCE_DIR}/runtime/*.[ch]"
        "${PROJECT_SOURCE_DIR}/sync/*.[ch]"
        "${PROJECT_SOURCE_DIR}/io/*.[ch]"
        "${PROJECT_SOURCE_DIR}/tests/*.[ch]"
        "${PROJECT_SOURCE_DIR}/examples/*.[ch]"
        "${PROJECT_SOURCE_DIR}/bench/*.[ch]")
    add_custom_target(format COMMAND ${PICA_CLANG_FORMAT} -i ${pica_formatted} VERBATIM)
endif()
