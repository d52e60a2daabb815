// main() of every test program. GoogleTest calls the tests of a suite that could not be set up
// skipped, and ctest, whatever the exit status, then takes them for tests that this machine cannot
// run. Here they have failed.
#include <gtest/gtest.h>

namespace {

class NoFixtureIsAFailure : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo&) override {
    const testing::TestSuite* suite = testing::UnitTest::GetInstance()->current_test_suite();
    if (suite->ad_hoc_test_result().Failed()) ADD_FAILURE() << "its suite could not be set up";
  }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // Behind the printer, which hears of the end of a test last. Owned by the list.
  testing::UnitTest::GetInstance()->listeners().Append(new NoFixtureIsAFailure);
  return RUN_ALL_TESTS();
}
