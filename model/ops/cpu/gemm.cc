// Weight-stationary products over packed panels.
#include "model/ops/cpu/gemm.h"

#include "model/ops/cpu/isa.h"
#include "model/ops/cpu/simd.h"

namespace tramontane::kernels::TRAMONTANE_ISA {

namespace {

constexpr int kPanelVectors = 4;
// Accumulators, one row of weights and a broadcast must fit the registers: 32 with AVX-512,
// else 16.
#if defined(__AVX512F__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 3;
#endif
constexpr int64_t kLanes = kWidth<float>;
constexpr int64_t kPanel = kPanelVectors * kLanes;

using Bfloat16 = uint16_t;  // the upper half of a float's bits

inline Vec<float> Widen(const float* p) { return Load(p); }
inline Vec<float> Widen(const Bfloat16* p) {
  typedef uint16_t Narrow __attribute__((vector_size(kVecBytes / 2)));
  typedef uint32_t Wide __attribute__((vector_size(kVecBytes)));
  Narrow narrow;
  __builtin_memcpy(&narrow, p, sizeof(narrow));
  const Wide bits = __builtin_convertvector(narrow, Wide) << 16;
  Vec<float> v;
  __builtin_memcpy(&v, &bits, sizeof(v));
  return v;
}
inline Vec<float> Widen(const int8_t* p) {
  typedef int8_t Narrow __attribute__((vector_size(kVecBytes / 4)));
  typedef int32_t Wide __attribute__((vector_size(kVecBytes)));
  Narrow narrow;
  __builtin_memcpy(&narrow, p, sizeof(narrow));
  return __builtin_convertvector(__builtin_convertvector(narrow, Wide), Vec<float>);
}

template <int R, int C>
inline void Finish(const GemmCall& call, int64_t row, int64_t output, Vec<float> (&acc)[R][C]) {
  if (call.type == WeightType::kInt8) {
    for (int c = 0; c < C; ++c) {
      const Vec<float> scale = Load(call.scales + output + c * kLanes);
      for (int r = 0; r < R; ++r) acc[r][c] *= scale;
    }
  }
  if (call.bias != nullptr) {
    for (int c = 0; c < C; ++c) {
      const Vec<float> bias = Load(call.bias + output + c * kLanes);
      for (int r = 0; r < R; ++r) acc[r][c] += bias;
    }
  }
  if (call.epilogue == Epilogue::kSwiGlu) {
    if constexpr (C % 2 == 0) {
      for (int r = 0; r < R; ++r) {
        float* y = call.y + (row + r) * call.y_stride + output / 2;
        for (int c = 0; c < C / 2; ++c) {
          const Vec<float> gate = acc[r][c];
          Store<float>(y + c * kLanes, gate / (Exp(-gate) + 1.0f) * acc[r][C / 2 + c]);
        }
      }
    }
    return;
  }
  for (int r = 0; r < R; ++r) {
    float* y = call.y + (row + r) * call.y_stride + output;
    for (int c = 0; c < C; ++c) {
      const bool add = call.epilogue == Epilogue::kAdd;
      Store<float>(y + c * kLanes, add ? Load(y + c * kLanes) + acc[r][c] : acc[r][c]);
    }
  }
}

template <typename W, int R, int C>
void Tile(const GemmCall& call, int64_t row, int64_t output) {
  const float* x = call.x + row * call.x_stride;
  const W* w = static_cast<const W*>(call.weights) + output * call.inputs;
  Vec<float> acc[R][C] = {};
  for (int64_t k = 0; k < call.inputs; ++k, w += C * kLanes) {
    Vec<float> weights[C];
    for (int c = 0; c < C; ++c) weights[c] = Widen(w + c * kLanes);
    for (int r = 0; r < R; ++r) {
      const Vec<float> b = Set1(x[r * call.x_stride + k]);
      for (int c = 0; c < C; ++c) acc[r][c] += b * weights[c];
    }
  }
  Finish(call, row, output, acc);
}

// The rows that are left, in one tile.
template <typename W, int R, int C>
void LastTile(const GemmCall& call, int64_t row, int64_t output) {
  if constexpr (R > 0) {
    if (call.rows - row == R) return Tile<W, R, C>(call, row, output);
    LastTile<W, R - 1, C>(call, row, output);
  }
}

template <typename W, int C>
void Panel(const GemmCall& call, int64_t output) {
  int64_t row = 0;
  for (; row + kTileRows <= call.rows; row += kTileRows) Tile<W, kTileRows, C>(call, row, output);
  LastTile<W, kTileRows - 1, C>(call, row, output);
}

template <typename W>
void Panels(const GemmCall& call) {
  for (int64_t p = call.first_panel; p < call.end_panel; ++p) {
    const int64_t output = p * kPanel;
    switch (Min(kPanel, call.outputs - output) / kLanes) {
      case 4:
        Panel<W, 4>(call, output);
        break;
      case 3:
        Panel<W, 3>(call, output);
        break;
      case 2:
        Panel<W, 2>(call, output);
        break;
      default:
        Panel<W, 1>(call, output);
        break;
    }
  }
}

void Multiply(const GemmCall& call) {
  switch (call.type) {
    case WeightType::kFloat32:
      return Panels<float>(call);
    case WeightType::kBfloat16:
      return Panels<Bfloat16>(call);
    case WeightType::kInt8:
      return Panels<int8_t>(call);
  }
}

inline void Narrow(float value, float, float* out) { *out = value; }
inline void Narrow(float value, float, Bfloat16* out) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  // Ties to even. A NaN keeps a bit of its payload, whatever rounding would carry.
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  *out = static_cast<Bfloat16>(value == value ? rounded : (bits >> 16) | 1);
}
inline void Narrow(float value, float inverse_scale, int8_t* out) {
  *out = static_cast<int8_t>(__builtin_lrintf(value * inverse_scale));
}

template <typename W>
void PackPanels(int64_t outputs, int64_t inputs, const float* const* rows, const float* inverse,
                W* out) {
  constexpr int64_t kInputsAtOnce = 16;  // a cache line of each source row
  for (int64_t panel = 0; panel < outputs; panel += kPanel) {
    const int64_t width = Min(kPanel, outputs - panel);
    for (int64_t begin = 0; begin < inputs; begin += kInputsAtOnce) {
      const int64_t end = Min(inputs, begin + kInputsAtOnce);
      for (int64_t o = 0; o < width; ++o) {
        const float* row = rows[panel + o];
        const float scale = inverse == nullptr ? 1 : inverse[panel + o];
        W* to = out + panel * inputs + o;
        for (int64_t k = begin; k < end; ++k)
          Narrow(row == nullptr ? 0.0f : row[k], scale, to + k * width);
      }
    }
  }
}

void PackInt8(int64_t outputs, int64_t inputs, const float* const* rows, int8_t* out,
              float* scales) {
  Scratch<float> inverse(outputs);
  for (int64_t o = 0; o < outputs; ++o) {
    float most = 0;
    for (int64_t k = 0; rows[o] != nullptr && k < inputs; ++k) {
      const float size = std::fabs(rows[o][k]);
      // Not max(): a NaN must stay, so that it is seen in what is computed.
      if (most == most && !(size <= most)) most = size;
    }
    const bool usable = most > 0 && most <= std::numeric_limits<float>::max();
    scales[o] = usable ? most / 127.0f : most;
    inverse.get()[o] = usable ? 127.0f / most : 0.0f;
  }
  PackPanels(outputs, inputs, rows, inverse.get(), out);
}

void Pack(WeightType type, int64_t outputs, int64_t inputs, const float* const* rows, void* out,
          float* scales) {
  switch (type) {
    case WeightType::kFloat32:
      return PackPanels(outputs, inputs, rows, nullptr, static_cast<float*>(out));
    case WeightType::kBfloat16:
      return PackPanels(outputs, inputs, rows, nullptr, static_cast<Bfloat16*>(out));
    case WeightType::kInt8:
      return PackInt8(outputs, inputs, rows, static_cast<int8_t*>(out), scales);
  }
}

}  // namespace

const GemmTable& GemmTableHere() {
  static constexpr GemmTable table = {.isa = TRAMONTANE_ISA_NAME,
                                      .lanes = kLanes,
                                      .panel = kPanel,
                                      .tile_rows = kTileRows,
                                      .pack = Pack,
                                      .multiply = Multiply};
  return table;
}

}  // namespace tramontane::kernels::TRAMONTANE_ISA
