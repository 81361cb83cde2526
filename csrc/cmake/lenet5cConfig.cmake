# The C runtime as a target, which is compiled in the project that asks for it:
#
#     find_package(lenet5c REQUIRED)
#     target_link_libraries(program PRIVATE lenet5c::lenet5c)
#
# `lenet5c config --cmakedir` prints this folder, for lenet5c_DIR or CMAKE_PREFIX_PATH. The
# target behind the name is lenet5c_runtime, for what a name cannot be given:
#
#     target_compile_definitions(lenet5c_runtime PUBLIC LENET5C_BARE)
cmake_minimum_required(VERSION 3.16)

if(TARGET lenet5c::lenet5c) # another folder of the project has asked before
  return()
endif()

get_property(lenet5c_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT "C" IN_LIST lenet5c_languages)
  if(DEFINED CMAKE_CURRENT_FUNCTION) # what is enabled here would be lost at its end
    set(lenet5c_FOUND FALSE)
    set(lenet5c_NOT_FOUND_MESSAGE
        "lenet5c is C, which cannot be enabled in a function: expected project(... C CXX) or \
find_package(lenet5c) outside of functions, got find_package in ${CMAKE_CURRENT_FUNCTION}()")
    return()
  endif()
  enable_language(C)
endif()

get_filename_component(lenet5c_folder "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
add_library(lenet5c_runtime STATIC EXCLUDE_FROM_ALL "${lenet5c_folder}/lenet5c.c")
add_library(lenet5c::lenet5c ALIAS lenet5c_runtime)
target_compile_features(lenet5c_runtime PRIVATE c_std_11)
target_include_directories(lenet5c_runtime INTERFACE "$<BUILD_INTERFACE:${lenet5c_folder}>")

# It may become part of a shared library, which keeps these functions to itself.
set_target_properties(
  lenet5c_runtime PROPERTIES OUTPUT_NAME lenet5c POSITION_INDEPENDENT_CODE ON
                             C_VISIBILITY_PRESET hidden)
target_compile_definitions(lenet5c_runtime PRIVATE LENET5C_API=)

# Without optimisation a prediction takes 15 times and more: -O2 in Debug too, and where there
# is no build type. The flags of the other build types stand before these and are kept.
# Warnings (-w) are for the project's own files.
if(NOT MSVC)
  target_compile_options(
    lenet5c_runtime
    PRIVATE -w
            $<$<NOT:$<OR:$<CONFIG:Release>,$<CONFIG:RelWithDebInfo>,$<CONFIG:MinSizeRel>>>:-O2>)
endif()
