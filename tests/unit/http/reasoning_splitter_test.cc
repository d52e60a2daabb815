#include "services/generator/http/reasoning_splitter.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

using Parts = std::pair<std::string, std::string>;  // reasoning, content

// `text` in pieces of `size` bytes.
Parts Split(const std::string& text, bool open, size_t size) {
  ReasoningSplitter splitter("<think>", "</think>", open);
  Parts all;
  const auto add = [&all](const ReasoningSplitter::Parts& parts) {
    all.first += parts.reasoning;
    all.second += parts.content;
  };
  for (size_t i = 0; i < text.size(); i += size) add(splitter.Push(text.substr(i, size)));
  add(splitter.Finish());
  return all;
}

TEST(ReasoningSplitterTest, ThoughtsAndAnswerComeApartHoweverTheTextArrives) {
  const struct {
    std::string text;
    bool open;
    Parts parts;
  } cases[] = {
      {"<think>\na < b\n</think>\n\n42", false, {"a < b\n", "42"}},
      {"a </thin b</think>42", true, {"a </thin b", "42"}},
      {"just an answer", false, {"", "just an answer"}},
      {"  <think>x</think>y", false, {"x", "y"}},
      {"never closed </thi", true, {"never closed </thi", ""}},
      {"<thi", false, {"", "<thi"}},
      {"answer <think>no</think>", false, {"", "answer <think>no</think>"}},
      {"</think>z</think>", true, {"", "z</think>"}},
      {"\n\n", false, {"", "\n\n"}},
      {"", true, {"", ""}},
  };
  for (const auto& [text, open, parts] : cases) {
    for (size_t size = 1; size <= text.size() + 1; ++size) {
      EXPECT_EQ(Split(text, open, size), parts) << text << " in pieces of " << size;
    }
  }
}

TEST(ReasoningSplitterTest, WhatIsCertainIsNotHeldBack) {
  ReasoningSplitter splitter("<think>", "</think>", true);
  EXPECT_EQ(splitter.Push("abc <").reasoning, "abc ");
  EXPECT_EQ(splitter.Push("b").reasoning, "<b");
  EXPECT_EQ(splitter.Push("</think>d").content, "d");
}

}  // namespace
}  // namespace tramontane
