#include "text/pieces.h"

#include <cstring>

namespace tramontane {

absl::StatusOr<PieceTable> PieceTable::Parse(std::string_view bytes) {
  PieceTable table;
  const auto take = [&](size_t size, void* to) {
    if (bytes.size() < size) return false;
    if (size > 0) std::memcpy(to, bytes.data(), size);
    bytes.remove_prefix(size);
    return true;
  };
  uint32_t header[3];
  if (!take(sizeof(header), header)) return absl::InternalError("piece table: no header");
  table.mode_ = static_cast<Mode>(header[0]);
  table.strip_left_ = header[1];
  const size_t count = header[2];
  table.offsets_.resize(count + 1);
  table.kinds_.resize(count);
  if (!take(sizeof(uint32_t) * (count + 1), table.offsets_.data()) ||
      !take(count, table.kinds_.data()) || bytes.size() != table.offsets_.back()) {
    return absl::InternalError("piece table: sizes disagree");
  }
  table.bytes_ = std::string(bytes);
  return table;
}

}  // namespace tramontane
