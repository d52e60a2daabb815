#include "services/generator/http/reasoning_splitter.h"

#include <algorithm>
#include <utility>

namespace tramontane {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

// Length of the longest end of `text` that `tag` begins with.
size_t TagBegun(std::string_view text, std::string_view tag) {
  size_t size = std::min(text.size(), tag.size() - 1);
  while (size > 0 && text.substr(text.size() - size) != tag.substr(0, size)) --size;
  return size;
}

}  // namespace

ReasoningSplitter::ReasoningSplitter(std::string open_tag, std::string close_tag, bool open)
    : open_tag_(std::move(open_tag)),
      close_tag_(std::move(close_tag)),
      where_(open ? Where::kInside : Where::kBefore) {}

// Hands out the first `size` held bytes. White space at the begin of a part is not part of it.
void ReasoningSplitter::Take(size_t size, Parts& parts) {
  std::string_view text = std::string_view(held_).substr(0, size);
  if (blank_) {
    text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
    blank_ = text.empty();
  }
  (where_ == Where::kInside ? parts.reasoning : parts.content).append(text);
  held_.erase(0, size);
}

ReasoningSplitter::Parts ReasoningSplitter::Push(std::string_view text) {
  Parts parts;
  held_.append(text);
  if (where_ == Where::kBefore) {
    // Thinking comes first or not at all.
    const size_t begin = std::min(held_.find_first_not_of(kSpace), held_.size());
    const std::string_view rest = std::string_view(held_).substr(begin);
    if (rest.size() < open_tag_.size() && std::string_view(open_tag_).starts_with(rest)) {
      return parts;
    }
    const bool thinks = rest.starts_with(open_tag_);
    if (thinks) held_.erase(0, begin + open_tag_.size());
    blank_ = thinks;
    where_ = thinks ? Where::kInside : Where::kBehind;
  }
  if (where_ == Where::kInside) {
    const size_t close = held_.find(close_tag_);
    if (close == std::string::npos) {
      Take(held_.size() - TagBegun(held_, close_tag_), parts);
      return parts;
    }
    Take(close, parts);
    held_.erase(0, close_tag_.size());
    where_ = Where::kBehind;
    blank_ = true;
  }
  Take(held_.size(), parts);
  return parts;
}

ReasoningSplitter::Parts ReasoningSplitter::Finish() {
  Parts parts;
  if (where_ == Where::kBefore) blank_ = false;  // an answer of white space
  Take(held_.size(), parts);
  return parts;
}

}  // namespace tramontane
