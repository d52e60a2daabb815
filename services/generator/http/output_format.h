// Structured output: what response_format, structured_outputs and vLLM's guided_* ask for, as a
// grammar. Pure; any thread.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "services/generator/http/completion_request.h"
#include "services/generator/http/field_reader.h"

namespace tramontane {

struct OutputFormat {
  std::string param;  // the field that asked; empty: none did
  GrammarSource source;
};

// At most one of the fields may ask for something. Mistakes are left with `fields`.
OutputFormat ReadOutputFormat(FieldReader& fields);

// Compiles it into request.grammar. 400 with code invalid_grammar when it cannot be compiled.
absl::Status SetGrammar(const OutputFormat& format, const ServedModel& model,
                        CompletionRequest& request);

}  // namespace tramontane
