#include "generator/core/stop_strings.h"

#include <algorithm>

namespace tramontane {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) longest_ = std::max(longest_, stop.size());
}

bool StopStrings::Push(std::string_view piece) {
  // A match must end in the new piece, so it begins at most longest_ - 1 bytes before it.
  const size_t old_size = text_.size();
  const size_t earliest = longest_ == 0 || old_size + 1 < longest_ ? 0 : old_size + 1 - longest_;
  const size_t from = std::max(earliest, searchable_);
  text_.append(piece);
  size_t begin = std::string::npos;
  for (const std::string& stop : stops_) begin = std::min(begin, text_.find(stop, from));
  if (begin == std::string::npos) return false;
  text_.resize(begin);
  return true;
}

void StopStrings::Append(std::string_view piece) {
  text_.append(piece);
  searchable_ = text_.size();
}

size_t StopStrings::certain() const {
  const size_t most = std::min(text_.size() - searchable_, longest_ == 0 ? 0 : longest_ - 1);
  for (size_t held = most; held > 0; --held) {
    const std::string_view tail = std::string_view(text_).substr(text_.size() - held);
    for (const std::string& stop : stops_) {
      if (stop.size() > held && std::string_view(stop).substr(0, held) == tail)
        return text_.size() - held;
    }
  }
  return text_.size();
}

}  // namespace tramontane
