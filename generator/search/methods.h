// The searches themselves; Search() chooses among them.
#pragma once

#include "absl/status/statusor.h"
#include "generator/search/path_grower.h"
#include "generator/search/search.h"

namespace tramontane {

absl::StatusOr<SearchResult> SearchChains(const SearchParams& params, const SearchTools& tools,
                                          PathGrower& grower);
absl::StatusOr<SearchResult> SearchBeam(const SearchParams& params, PathGrower& grower);
absl::StatusOr<SearchResult> SearchDvts(const SearchParams& params, PathGrower& grower);
absl::StatusOr<SearchResult> SearchMcts(const SearchParams& params, PathGrower& grower);

}  // namespace tramontane
