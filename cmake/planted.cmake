# A build with a defect planted, to see that the tests notice it: PICA_DEFECT is a name of
# tests/explore/defect_table.py, or "none" for a build that is prepared for one. The sources that the table names are
# then compiled from copies in planted/ of the build tree, which tests/explore/defects writes.
set(PICA_DEFECT "" CACHE STRING "Tests only: a defect to build in (tests/explore/defects list), or none")
set(pica_planted_folder "${PROJECT_BINARY_DIR}/planted")
if(PICA_DEFECT)
    find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
    execute_process(
        COMMAND "${Python3_EXECUTABLE}" -B "${PROJECT_SOURCE_DIR}/tests/explore/defects" plant "${pica_planted_folder}"
            --only "${PICA_DEFECT}"
        COMMAND_ERROR_IS_FATAL ANY)
    include_directories(BEFORE "${pica_planted_folder}")
    message(WARNING "This build has a defect planted: ${PICA_DEFECT}")
endif()

# Takes the copies instead of the sources in the list (of paths from PROJECT_SOURCE_DIR, or absolute ones).
function(pica_planted list)
    if(PICA_DEFECT)
        set(pica_taken)
        foreach(source IN LISTS ${list})
            set(path "${source}")
            if(IS_ABSOLUTE "${source}")
                file(RELATIVE_PATH path "${PROJECT_SOURCE_DIR}" "${source}")
            endif()
            if(EXISTS "${pica_planted_folder}/${path}")
                set(source "${pica_planted_folder}/${path}")
            endif()
            list(APPEND pica_taken "${source}")
        endforeach()
        set(${list} ${pica_taken} PARENT_SCOPE)
    endif()
endfunction()
