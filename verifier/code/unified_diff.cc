#include "verifier/code/unified_diff.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "common/status.h"
#include "verifier/ascii.h"

namespace tramontane {
namespace {

constexpr size_t kMaxLineNumber = 100'000'000;

// Takes `prefix` off the front of `text`.
bool Take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool TakeNumber(std::string_view& text, size_t& number) {
  if (text.empty() || !IsDigit(text[0])) return false;
  number = 0;
  while (!text.empty() && IsDigit(text[0])) {
    number = 10 * number + static_cast<size_t>(text[0] - '0');
    if (number > kMaxLineNumber) return false;
    text.remove_prefix(1);
  }
  return true;
}

// "3,7" or "3"
bool TakeRange(std::string_view& text, size_t& start, size_t& count) {
  count = 1;
  return TakeNumber(text, start) && (!Take(text, ",") || TakeNumber(text, count));
}

bool ReadHunkHeader(std::string_view line, DiffHunk& hunk) {
  if (!Take(line, "@@ -") || !TakeRange(line, hunk.old_start, hunk.old_count) ||
      !Take(line, " +") || !TakeRange(line, hunk.new_start, hunk.new_count) ||
      !Take(line, " @@")) {
    return false;
  }
  Take(line, " ");
  hunk.section = line;
  return true;
}

// What "diff --git" sections may hold besides, and what cannot be taken.
constexpr std::string_view kIgnored[] = {"index ", "old mode ", "new mode "};
constexpr std::string_view kRefused[] = {"rename ",       "copy ",          "similarity ",
                                         "dissimilarity ", "GIT binary patch", "Binary files "};

bool StartsWithAny(std::string_view line, const auto& prefixes) {
  return std::any_of(std::begin(prefixes), std::end(prefixes),
                     [line](std::string_view prefix) { return line.starts_with(prefix); });
}

class DiffParser {
 public:
  explicit DiffParser(std::string_view text) {
    for (size_t start = 0; start < text.size();) {
      const size_t end = std::min(text.find('\n', start), text.size());
      lines_.push_back(text.substr(start, end - start));
      start = end + 1;
    }
  }

  absl::StatusOr<std::vector<FileDiff>> Parse() {
    std::vector<FileDiff> diffs;
    std::set<std::string> seen;
    while (at_ < lines_.size()) {
      if (Trimmed(Line()).empty()) {
        ++at_;
        continue;
      }
      const size_t start = at_;
      ASSIGN_OR_RETURN(FileDiff diff, ParseFile());
      if (!seen.insert(diff.path).second) {
        at_ = start;
        return Wrong("the file comes twice");
      }
      diffs.push_back(std::move(diff));
    }
    if (diffs.empty()) return absl::InvalidArgumentError("it names no file");
    return diffs;
  }

 private:
  bool AtEnd() const { return at_ >= lines_.size(); }
  std::string_view Line() const { return AtEnd() ? std::string_view() : lines_[at_]; }

  absl::Status Wrong(const std::string& problem) const {
    return absl::InvalidArgumentError("line " + std::to_string(at_ + 1) + ": " + problem);
  }

  absl::StatusOr<FileDiff> ParseFile() {
    FileDiff diff;
    std::string_view header = Line();
    const bool git = Take(header, "diff --git ");
    if (git) {
      const std::string_view names = Trimmed(header);
      ++at_;
      RETURN_IF_ERROR(ReadGitHeader(diff));
      if (!Line().starts_with("--- ")) {
        RETURN_IF_ERROR(NameEmptyFile(names, diff));
        return diff;
      }
    }
    RETURN_IF_ERROR(ReadNames(diff));
    while (Line().starts_with("@@")) {
      ASSIGN_OR_RETURN(DiffHunk hunk, ParseHunk());
      diff.hunks.push_back(std::move(hunk));
    }
    if (diff.hunks.empty()) return Wrong("a hunk was expected: @@ -1,2 +1,3 @@");
    return diff;
  }

  absl::Status ReadGitHeader(FileDiff& diff) {
    for (; !AtEnd(); ++at_) {
      if (StartsWithAny(Line(), kRefused)) {
        return Wrong("renames, copies and binary files are not taken");
      }
      if (Line().starts_with("new file mode ")) {
        diff.creates = true;
      } else if (Line().starts_with("deleted file mode ")) {
        diff.deletes = true;
      } else if (!StartsWithAny(Line(), kIgnored)) {
        break;
      }
    }
    return absl::OkStatus();
  }

  // "a/x b/x" of an empty file, which has no other header.
  absl::Status NameEmptyFile(std::string_view names, FileDiff& diff) {
    const size_t half = names.size() / 2;
    const bool named = names.size() % 2 == 1 && names.starts_with("a/") && names[half] == ' ' &&
                       names.substr(half + 1).starts_with("b/") &&
                       names.substr(2, half - 2) == names.substr(half + 3);
    if (diff.creates == diff.deletes || !named) return Wrong("--- was expected");
    diff.path = names.substr(2, half - 2);
    return absl::OkStatus();
  }

  // The name behind "--- " or "+++ "; empty: /dev/null.
  absl::StatusOr<std::string_view> ReadName(std::string_view mark) {
    std::string_view line = Line();
    if (!Take(line, mark)) return Wrong(std::string(mark) + "was expected");
    const std::string_view name = Trimmed(line.substr(0, line.find('\t')));
    if (name.empty()) return Wrong("a file's name was expected");
    if (name[0] == '"') return Wrong("quoted names are not taken");
    ++at_;
    return name == "/dev/null" ? std::string_view() : name;
  }

  absl::Status ReadNames(FileDiff& diff) {
    ASSIGN_OR_RETURN(std::string_view before, ReadName("--- "));
    ASSIGN_OR_RETURN(std::string_view after, ReadName("+++ "));
    const bool prefixed = (before.empty() || before.starts_with("a/")) &&
                          (after.empty() || after.starts_with("b/"));
    if (prefixed) {
      Take(before, "a/");
      Take(after, "b/");
    }
    --at_;  // for the errors
    if (before.empty() && after.empty()) return Wrong("both names are /dev/null");
    if (!before.empty() && !after.empty() && before != after) {
      return Wrong("the names differ: renames are not taken");
    }
    if ((diff.creates && !before.empty()) || (diff.deletes && !after.empty())) {
      return Wrong("/dev/null was expected");
    }
    ++at_;
    diff.creates = before.empty();
    diff.deletes = after.empty();
    diff.path = diff.creates ? after : before;
    return absl::OkStatus();
  }

  absl::StatusOr<DiffHunk> ParseHunk() {
    DiffHunk hunk;
    if (!ReadHunkHeader(Line(), hunk)) return Wrong("not the header of a hunk");
    ++at_;
    size_t old_left = hunk.old_count, new_left = hunk.new_count;
    while (old_left > 0 || new_left > 0 || Line().starts_with("\\")) {
      if (AtEnd()) return Wrong("the hunk is shorter than its header says");
      const std::string_view line = Line();
      const char kind = line.empty() || line == "\r" ? ' ' : line[0];
      if (kind == '\\') {
        if (hunk.lines.empty()) return Wrong("\\ without a line before it");
        hunk.lines.back().ends_file = true;
      } else if ((kind == ' ' && old_left > 0 && new_left > 0) || (kind == '-' && old_left > 0) ||
                 (kind == '+' && new_left > 0)) {
        old_left -= kind != '+';
        new_left -= kind != '-';
        // Editors take the blank of an empty context line away.
        const bool bare = line.empty() || line == "\r";
        hunk.lines.push_back({kind, std::string(bare ? line : line.substr(1)), false});
      } else {
        return Wrong("does not fit the counts in the hunk's header");
      }
      ++at_;
    }
    return hunk;
  }

  std::vector<std::string_view> lines_;
  size_t at_ = 0;
};

struct TextLine {
  std::string_view text;
  bool ends_file = false;  // without a newline
};

std::vector<TextLine> LinesOf(std::string_view content) {
  std::vector<TextLine> lines;
  for (size_t start = 0; start < content.size();) {
    const size_t end = std::min(content.find('\n', start), content.size());
    lines.push_back({content.substr(start, end - start), end == content.size()});
    start = end + 1;
  }
  return lines;
}

void Append(std::string_view text, bool ends_file, std::string& content) {
  content += text;
  if (!ends_file) content += '\n';
}

// Nothing: the hunk does not fit.
bool ApplyHunk(const DiffHunk& hunk, const std::vector<TextLine>& lines, size_t& at,
               std::string& content) {
  // A hunk without old lines stands behind the line it names.
  const size_t start = hunk.old_count == 0 ? hunk.old_start : hunk.old_start - 1;
  if (hunk.old_count > 0 && hunk.old_start == 0) return false;
  if (start < at || start + hunk.old_count > lines.size()) return false;
  for (; at < start; ++at) Append(lines[at].text, lines[at].ends_file, content);
  for (const DiffLine& line : hunk.lines) {
    if (line.kind != '+') {
      if (lines[at].text != line.text || lines[at].ends_file != line.ends_file) return false;
      ++at;
    }
    if (line.kind == '-') continue;
    if (!content.empty() && content.back() != '\n') return false;  // a line behind the last one
    Append(line.text, line.ends_file, content);
  }
  return true;
}

absl::StatusOr<std::string> ApplyHunks(const FileDiff& diff, std::string_view before) {
  const std::vector<TextLine> lines = LinesOf(before);
  std::string content;
  size_t at = 0;
  for (size_t i = 0; i < diff.hunks.size(); ++i) {
    if (!ApplyHunk(diff.hunks[i], lines, at, content)) {
      return absl::FailedPreconditionError(diff.path + ": hunk " + std::to_string(i + 1) +
                                           " does not apply at line " +
                                           std::to_string(diff.hunks[i].old_start));
    }
  }
  if (at < lines.size() && !content.empty() && content.back() != '\n') {
    return absl::FailedPreconditionError(diff.path + ": a line without a newline is not the last");
  }
  for (; at < lines.size(); ++at) Append(lines[at].text, lines[at].ends_file, content);
  return content;
}

}  // namespace

absl::StatusOr<std::vector<FileDiff>> ParseUnifiedDiff(std::string_view text) {
  return DiffParser(text).Parse();
}

absl::StatusOr<FileTree> ApplyDiff(const FileTree& tree, const std::vector<FileDiff>& diffs) {
  FileTree changed = tree;
  for (const FileDiff& diff : diffs) {
    const auto file = changed.find(diff.path);
    if (diff.creates != (file == changed.end())) {
      return absl::FailedPreconditionError(
          diff.path + (diff.creates ? ": is there already" : ": there is no such file"));
    }
    ASSIGN_OR_RETURN(std::string content,
                     ApplyHunks(diff, diff.creates ? std::string_view() : file->second));
    if (!diff.deletes) {
      changed[diff.path] = std::move(content);
    } else if (content.empty()) {
      changed.erase(file);
    } else {
      return absl::FailedPreconditionError(diff.path + ": is deleted and not empty after it");
    }
  }
  return changed;
}

}  // namespace tramontane
