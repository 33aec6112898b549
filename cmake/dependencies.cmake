# What smelt is built from, each with the Debian package that brings it.
function(smelt_missing what package)
  message(FATAL_ERROR "smelt needs ${what}. On Debian 12: apt-get install ${package}")
endfunction()

find_program(LLVM_CONFIG NAMES llvm-config-19)
if(NOT LLVM_CONFIG)
  smelt_missing("LLVM 19's C API (llvm-config-19)" llvm-19-dev)
endif()
execute_process(COMMAND ${LLVM_CONFIG} --includedir OUTPUT_VARIABLE LLVM_INCLUDE OUTPUT_STRIP_TRAILING_WHITESPACE)
execute_process(COMMAND ${LLVM_CONFIG} --libdir OUTPUT_VARIABLE LLVM_LIBDIR OUTPUT_STRIP_TRAILING_WHITESPACE)
add_library(llvm_c INTERFACE)
target_include_directories(llvm_c SYSTEM INTERFACE ${LLVM_INCLUDE})
target_link_directories(llvm_c INTERFACE ${LLVM_LIBDIR})
target_link_libraries(llvm_c INTERFACE LLVM-19)

find_path(PROTOBUF_C_INCLUDE protobuf-c/protobuf-c.h)
find_library(PROTOBUF_C_LIBRARY protobuf-c)
find_program(PROTOC_C protoc-c)
if(NOT PROTOBUF_C_INCLUDE OR NOT PROTOBUF_C_LIBRARY)
  smelt_missing("protobuf-c" libprotobuf-c-dev)
endif()
if(NOT PROTOC_C)
  smelt_missing("protoc-c" protobuf-c-compiler)
endif()
add_library(protobuf_c INTERFACE)
target_include_directories(protobuf_c SYSTEM INTERFACE ${PROTOBUF_C_INCLUDE})
target_link_libraries(protobuf_c INTERFACE ${PROTOBUF_C_LIBRARY})

find_package(ZLIB)
if(NOT ZLIB_FOUND)
  smelt_missing("zlib" zlib1g-dev)
endif()

# The only one that smelt can do without: contractions are generated code. Looked for so that a build says
# whether a backend of contractions that calls OpenBLAS could be had.
find_path(OPENBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas openblas-pthread x86_64-linux-gnu)
find_library(OPENBLAS_LIBRARY openblas)
if(NOT OPENBLAS_INCLUDE OR NOT OPENBLAS_LIBRARY)
  message(STATUS "OpenBLAS is not installed; only --blas=openblas needs it. On Debian 12: apt-get install libopenblas-dev")
endif()

find_package(Threads REQUIRED)
