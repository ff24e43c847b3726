# cmake --install: libraries, headers, pica.pc and the package config for find_package(pica).
include(CMakePackageConfigHelpers)

set(pica_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/pica")

install(TARGETS pica pica_static EXPORT pica-targets
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILES_MATCHING PATTERN "*.h")
install(EXPORT pica-targets NAMESPACE pica:: DESTINATION "${pica_cmake_dir}")

# Named pica-config, not PicaConfig: find_package(pica) and find_package(Pica) both look for it.
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/pica-config.cmake.in"
    "${PROJECT_BINARY_DIR}/pica-config.cmake" INSTALL_DESTINATION "${pica_cmake_dir}")
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/pica-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
install(FILES
    "${PROJECT_BINARY_DIR}/pica-config.cmake"
    "${PROJECT_BINARY_DIR}/pica-config-version.cmake"
    DESTINATION "${pica_cmake_dir}")
install(FILES "${PROJECT_SOURCE_DIR}/cmake/jemalloc.cmake" DESTINATION "${pica_cmake_dir}"
    RENAME pica-jemalloc.cmake)

# The .pc file finds its prefix from where it lies, so that the tree can be moved.
file(RELATIVE_PATH pica_pc_prefix
    "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" pica_pc_prefix "${pica_pc_prefix}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/pica.pc.in" "${PROJECT_BINARY_DIR}/pica.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/pica.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
