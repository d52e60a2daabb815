// Searches between the wire and the generator.
#pragma once

#include "absl/status/statusor.h"
#include "generator/search/search_ask.h"
#include "tramontane/v1/generator.pb.h"

namespace tramontane {

// InvalidArgument names the field as "search.n".
absl::StatusOr<SearchAsk> FromProto(const v1::Search& search);
v1::SearchReport ToProto(const SearchParams& params, const SearchResult& result);

}  // namespace tramontane
