// Parts a growing answer into what stands between the think tags and what does not. The tags
// themselves belong to neither. One thread; one object per sample.
#pragma once

#include <string>
#include <string_view>

namespace tramontane {

class ReasoningSplitter {
 public:
  struct Parts {
    std::string reasoning, content;
  };
  // `open`: the prompt ended inside the tags already.
  ReasoningSplitter(std::string open_tag, std::string close_tag, bool open);

  // What is certain by now: an end that may be the begin of a tag is held back.
  Parts Push(std::string_view text);
  Parts Finish();  // the rest

 private:
  enum class Where { kBefore, kInside, kBehind };

  void Take(size_t size, Parts& parts);

  const std::string open_tag_, close_tag_;
  Where where_;
  bool blank_ = true;  // white space alone so far: dropped where thinking begins or ends
  std::string held_;
};

}  // namespace tramontane
