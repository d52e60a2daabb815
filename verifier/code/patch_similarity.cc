#include "verifier/code/patch_similarity.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "verifier/ascii.h"

namespace tramontane {
namespace {

constexpr int64_t kMostSteps = 500'000'000;

// A byte that is not part of a valid code point stands for itself, above all code points.
std::u32string CodePoints(std::string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3
                          : lead >> 3 == 30 ? 4 : 0;
    char32_t point = length == 1 ? lead : lead & (0x7Fu >> length);
    bool valid = length > 0 && i + length <= text.size();
    for (size_t k = 1; valid && k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      valid = next >> 6 == 2;
      point = point << 6 | (next & 0x3F);
    }
    out.push_back(valid ? point : 0x110000u + lead);
    i += valid ? length : 1;
  }
  return out;
}

// Ranges [a_low, a_high) and [b_low, b_high) in which matches are still to be found.
struct Ranges {
  size_t a_low, a_high, b_low, b_high;
};

struct Match {
  size_t a = 0, b = 0, size = 0;
};

class Matcher {
 public:
  Matcher(const std::u32string& a, const std::u32string& b)
      : a_(a), b_(b), length_(b.size()), row_(b.size(), a.size()) {
    for (size_t j = 0; j < b.size(); ++j) places_[b[j]].push_back(j);
  }

  size_t TotalMatched() {
    size_t total = 0;
    std::vector<Ranges> open = {{0, a_.size(), 0, b_.size()}};
    while (!open.empty()) {
      const Ranges r = open.back();
      open.pop_back();
      const Match match = Longest(r);
      if (match.size == 0) continue;
      total += match.size;
      const size_t a_end = match.a + match.size, b_end = match.b + match.size;
      if (r.a_low < match.a && r.b_low < match.b) {
        open.push_back({r.a_low, match.a, r.b_low, match.b});
      }
      if (a_end < r.a_high && b_end < r.b_high) open.push_back({a_end, r.a_high, b_end, r.b_high});
    }
    return total;
  }

 private:
  // The longest common part; of several the first in a, and of those the first in b.
  // length_[j]: of the match that ends at row_[j] in a and at j in b.
  Match Longest(const Ranges& r) {
    Match best;
    std::fill(row_.begin() + static_cast<ptrdiff_t>(r.b_low),
              row_.begin() + static_cast<ptrdiff_t>(r.b_high), a_.size());
    steps_ += static_cast<int64_t>(r.a_high - r.a_low + r.b_high - r.b_low);
    for (size_t i = r.a_low; i < r.a_high && steps_ < kMostSteps; ++i) {
      const auto found = places_.find(a_[i]);
      if (found == places_.end()) continue;
      const std::vector<size_t>& places = found->second;
      const auto first = std::lower_bound(places.begin(), places.end(), r.b_low);
      const auto last = std::lower_bound(first, places.end(), r.b_high);
      size_t longest = 0, at = 0;  // of this row; downwards, so that length_[j - 1] is the last row's
      for (auto place = last; place != first;) {
        const size_t j = *--place;
        const bool goes_on = j > r.b_low && i > r.a_low && row_[j - 1] == i - 1;
        length_[j] = goes_on ? length_[j - 1] + 1 : 1;
        row_[j] = i;
        if (length_[j] >= longest) {
          longest = length_[j];
          at = j;
        }
      }
      steps_ += last - first;
      if (longest > best.size) best = {i + 1 - longest, at + 1 - longest, longest};
    }
    return best;
  }

  const std::u32string& a_;
  const std::u32string& b_;
  std::unordered_map<char32_t, std::vector<size_t>> places_;  // in b, ascending
  std::vector<size_t> length_, row_;
  int64_t steps_ = 0;
};

// As the unidiff package prints hunks, each without blanks at its ends.
std::string ChangeText(const FileDiff& diff) {
  std::string text;
  for (const DiffHunk& hunk : diff.hunks) {
    std::string one = "@@ -" + std::to_string(hunk.old_start) + "," +
                      std::to_string(hunk.old_count) + " +" + std::to_string(hunk.new_start) + "," +
                      std::to_string(hunk.new_count) + " @@" +
                      (hunk.section.empty() ? "" : " " + hunk.section) + "\n";
    for (const DiffLine& line : hunk.lines) {
      one += line.kind + line.text + "\n";
      if (line.ends_file) one += "\\ No newline at end of file\n";
    }
    text += (text.empty() ? "" : "\n") + std::string(Trimmed(one));
  }
  return text;
}

}  // namespace

double SequenceRatio(std::string_view a, std::string_view b) {
  const std::u32string left = CodePoints(a), right = CodePoints(b);
  if (left.empty() && right.empty()) return 1;
  const size_t matched = Matcher(left, right).TotalMatched();
  return 2.0 * static_cast<double>(matched) / static_cast<double>(left.size() + right.size());
}

double PatchSimilarity(const std::vector<FileDiff>& predicted, const std::vector<FileDiff>& gold) {
  double sum = 0;
  for (const FileDiff& wanted : gold) {
    for (const FileDiff& got : predicted) {
      if (got.path != wanted.path || got.hunks.empty() || wanted.hunks.empty()) continue;
      sum += SequenceRatio(ChangeText(got), ChangeText(wanted));
    }
  }
  return gold.empty() ? 0 : sum / static_cast<double>(gold.size());
}

}  // namespace tramontane
