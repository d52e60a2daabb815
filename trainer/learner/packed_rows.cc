#include "trainer/learner/packed_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "trainer/learner/shared_inputs.h"

namespace tramontane {
namespace {

// Calls f(token of the microbatch, index within the row's sampled tokens, row) for sampled tokens.
template <class F>
void ForEachSampled(std::span<const TrainRow> rows, const std::vector<int32_t>& members, F f) {
  int64_t t = 0;
  for (int32_t i : members) {
    auto injected = rows[i].injected.begin();
    const auto end = rows[i].injected.end();
    size_t nth = 0;
    for (int32_t n = 0; n < static_cast<int32_t>(rows[i].response.size()); ++n, ++t) {
      while (injected != end && n >= injected->begin + injected->count) ++injected;
      if (injected == end || n < injected->begin) f(t, nth++, static_cast<size_t>(i));
    }
  }
}

// Lays out segments: a row by itself, or what rows share and then each one's own.
void Place(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
           PackedRows& packed) {
  const auto add = [&](int64_t tokens, int64_t continues) {
    packed.offsets.push_back(packed.offsets.back() + tokens);
    packed.continues.push_back(continues);
  };
  packed.offsets.push_back(0);
  for (size_t s = 0; s < members.size(); ++s) {
    RowPlace place;
    const int64_t tokens = rows[members[s]].input_tokens();
    const bool first = HeldTokens(rows, members, s) == 0;
    if (!first) {
      place = packed.places.back();
    } else if (s + 1 < members.size() && HeldTokens(rows, members, s + 1) > 0) {
      place.shared = rows[members[s]].shared_tokens;
      place.shared_at = packed.inputs();
      add(place.shared, 0);
    }
    place.own_at = packed.inputs();
    add(tokens - place.shared, place.shared > 0 ? 1 : 0);
    packed.places.push_back(place);
  }
}

// Inputs of one row.
void FillInputs(const TrainRow& row, const RowPlace& place, int64_t* tokens, int64_t* positions) {
  for (int64_t t = 0; t < row.input_tokens(); ++t) {
    tokens[place.At(t)] = row.TokenAt(t);
    positions[place.At(t)] = t;
  }
}

}  // namespace

PackedRows PackRows(std::span<const TrainRow> rows, const std::vector<int32_t>& members) {
  PackedRows packed;
  Place(rows, members, packed);
  int64_t responses = 0;
  for (int32_t i : members) responses += static_cast<int64_t>(rows[i].response.size());
  const auto ints = [](int64_t size) { return at::empty({size}, at::kLong); };
  packed.tokens_T = ints(packed.inputs());
  packed.positions_T = ints(packed.inputs());
  packed.hidden_rows_R = ints(responses);
  packed.targets_R = ints(responses);
  packed.sequence_R = ints(responses);
  int64_t* hidden_row = packed.hidden_rows_R.data_ptr<int64_t>();
  int64_t* target = packed.targets_R.data_ptr<int64_t>();
  int64_t* sequence = packed.sequence_R.data_ptr<int64_t>();
  for (size_t s = 0; s < members.size(); ++s) {
    const TrainRow& row = rows[members[s]];
    FillInputs(row, packed.places[s], packed.tokens_T.data_ptr<int64_t>(),
               packed.positions_T.data_ptr<int64_t>());
    const int64_t first = static_cast<int64_t>(row.prompt.size()) - 1;
    for (size_t t = 0; t < row.response.size(); ++t)
      *hidden_row++ = packed.places[s].At(first + static_cast<int64_t>(t));
    target = std::copy(row.response.begin(), row.response.end(), target);
    sequence = std::fill_n(sequence, row.response.size(), static_cast<int64_t>(s));
  }
  return packed;
}

at::Tensor PackRoutes(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                      const PackedRows& packed, int64_t expert_layers, int64_t experts_per_token) {
  at::Tensor routes_TLK = at::empty({packed.inputs(), expert_layers, experts_per_token}, at::kByte);
  uint8_t* out = routes_TLK.data_ptr<uint8_t>();
  const int64_t size = expert_layers * experts_per_token;
  for (size_t s = 0; s < members.size(); ++s) {
    const TrainRow& row = rows[members[s]];
    const RowPlace& place = packed.places[s];
    TORCH_CHECK(static_cast<int64_t>(row.routes.size()) == row.input_tokens() * size,
                "routes of another size than the inputs");
    const auto own = row.routes.begin() + place.shared * size;
    std::copy(row.routes.begin(), own, out + place.shared_at * size);
    std::copy(own, row.routes.end(), out + place.own_at * size);
  }
  return routes_TLK;
}

at::Tensor InjectedMask(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                        int64_t responses) {
  const auto has = [&](int32_t i) { return !rows[i].injected.empty(); };
  if (std::none_of(members.begin(), members.end(), has)) return {};
  at::Tensor masked_R = at::zeros({responses}, at::kBool);
  bool* out = masked_R.data_ptr<bool>();
  for (int32_t i : members) {
    for (const TokenSpan& span : rows[i].injected) std::fill_n(out + span.begin, span.count, true);
    out += rows[i].response.size();
  }
  return masked_R;
}

at::Tensor SpreadRows(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                      const std::vector<double>& values) {
  int64_t responses = 0;
  for (int32_t i : members) responses += static_cast<int64_t>(rows[i].response.size());
  at::Tensor spread_R = at::empty({responses}, at::kDouble);
  double* out = spread_R.data_ptr<double>();
  for (int32_t i : members) out = std::fill_n(out, rows[i].response.size(), values[i]);
  return spread_R;
}

SampledValues SampledValues::Like(std::span<const TrainRow> rows) {
  SampledValues sampled;
  sampled.first.push_back(0);
  for (const TrainRow& row : rows) {
    sampled.first.push_back(sampled.first.back() + static_cast<size_t>(row.sampled_tokens()));
  }
  sampled.values.assign(sampled.first.back(), 0.0);
  return sampled;
}

at::Tensor ScatterSampled(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                          const SampledValues& sampled) {
  int64_t responses = 0;
  for (int32_t i : members) responses += static_cast<int64_t>(rows[i].response.size());
  at::Tensor values_R = at::zeros({responses}, at::kDouble);
  double* out = values_R.data_ptr<double>();
  ForEachSampled(rows, members, [&](int64_t t, size_t nth, size_t i) {
    out[t] = sampled.values[sampled.first[i] + nth];
  });
  return values_R;
}

void GatherSampled(std::span<const TrainRow> rows, const std::vector<int32_t>& members,
                   const at::Tensor& values_R, SampledValues& sampled) {
  const at::Tensor wide_R = values_R.detach().to(at::kDouble).contiguous();
  const double* in = wide_R.data_ptr<double>();
  ForEachSampled(rows, members, [&](int64_t t, size_t nth, size_t i) {
    sampled.values[sampled.first[i] + nth] = in[t];
  });
}

}  // namespace tramontane
