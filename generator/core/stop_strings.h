// Finds the first stop string in text that arrives piece by piece. One thread, one per sample.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tramontane {

class StopStrings {
 public:
  // None of `stops` is empty; `stops` itself may be.
  explicit StopStrings(std::vector<std::string> stops);

  // Appends a piece. Returns true when the text now contains a stop string; text() then ends just
  // before the one that begins first, and nothing more may be pushed.
  bool Push(std::string_view piece);
  // Appends text that nobody sampled: no stop string is looked for in it or across its ends.
  void Append(std::string_view piece);

  const std::string& text() const { return text_; }
  // Length of the beginning of text() that no later piece can turn into part of a stop string.
  size_t certain() const;

 private:
  const std::vector<std::string> stops_;
  size_t longest_ = 0;
  std::string text_;
  size_t searchable_ = 0;  // stop strings begin here at the earliest
};

}  // namespace tramontane
