// Golden model folders of tests/golden/text, and scratch folders for hostile ones.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/source_file.h"

namespace tramontane {

inline std::string GoldenFolder(const std::string& name) {
  return SourceFile("tests/golden/text/" + name);
}

inline nlohmann::ordered_json Expected(const std::string& folder) {
  std::ifstream file(folder + "/expected.json");
  EXPECT_TRUE(file.good()) << folder;
  return nlohmann::ordered_json::parse(file);
}

// Folders whose names start with "template_", or the others.
inline std::vector<std::string> GoldenNames(bool templates) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenFolder(""))) {
    const std::string name = entry.path().filename();
    if (entry.is_directory() && name.starts_with("template_") == templates) names.push_back(name);
  }
  return names;
}

// A folder of its own for each test, removed with it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string path = std::filesystem::temp_directory_path() / "tramontane_text_XXXXXX";
    if (mkdtemp(path.data()) != nullptr) path_ = path;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + name).parent_path());
    std::ofstream(path_ + "/" + name, std::ios::binary) << text;
  }

 private:
  std::string path_;
};

}  // namespace tramontane
