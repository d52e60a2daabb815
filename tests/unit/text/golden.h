// Golden model folders of tests/golden/text.
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

}  // namespace tramontane
