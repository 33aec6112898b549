# smelt_add_model(target model.onnx [NAME prefix] [OPTIONS option...] [DEPENDS file...])
#
# Makes a library target that holds the compiled model: `smelt compile` runs when the project is built,
# and again whenever the model, a file of DEPENDS (external data) or the compiler changes. Who links
# the target can include "prefix.h". NAME is the prefix of the model's symbols; without it the target's
# name serves, with every character that C does not allow in a name replaced by '_'. OPTIONS go to
# smelt as they are: -O3 --dim batch=1. CMAKE_SYSTEM_PROCESSOR is not translated: a cross build names
# its target with OPTIONS --target=TRIPLE.
function(smelt_add_model target model)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "NAME" "OPTIONS;DEPENDS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "smelt_add_model(${target}): unknown argument: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_NAME)
    string(MAKE_C_IDENTIFIER "${target}" arg_NAME)
  endif()
  get_filename_component(model "${model}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}.smelt")
  set(archive "${folder}/lib${arg_NAME}.a")
  set(header "${folder}/${arg_NAME}.h")
  file(MAKE_DIRECTORY "${folder}")
  add_custom_command(
    OUTPUT "${archive}" "${header}"
    COMMAND smelt::compiler compile "${model}" -o "${archive}" --name "${arg_NAME}" ${arg_OPTIONS}
    DEPENDS "${model}" ${arg_DEPENDS} "$<TARGET_FILE:smelt::compiler>"
    COMMENT "Compiling ${model} with smelt"
    VERBATIM)
  add_custom_target(${target}-smelt DEPENDS "${archive}" "${header}")

  # An INTERFACE library rather than an imported one: its users wait for the model to be compiled.
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}-smelt)
  target_include_directories(${target} INTERFACE "${folder}")
  target_link_libraries(${target} INTERFACE "${archive}" $<$<PLATFORM_ID:Linux>:m>)
endfunction()
