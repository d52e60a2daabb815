#include "cli/busy_meter.h"

#include <gtest/gtest.h>

namespace tramontane {
namespace {

TEST(BusyMeterTest, CountsOnlyWhatLiesBetweenFirstAndLastLook) {
  BusyMeter meter;
  EXPECT_FALSE(meter.Share(1).has_value());
  meter.Look(100, {{"generator-0", {7, 40.0}}});  // 40 s of warming up are not of this stretch
  EXPECT_FALSE(meter.Share(1).has_value());
  meter.Look(105, {{"generator-0", {7, 44.0}}});
  meter.Look(110, {{"generator-0", {7, 48.0}}});
  EXPECT_DOUBLE_EQ(*meter.Share(1), 0.8);
}

TEST(BusyMeterTest, SurvivesARestartAndCountsTheGapAsIdle) {
  BusyMeter meter;
  meter.Look(0, {{"generator-0", {7, 100.0}}});
  meter.Look(10, {{"generator-0", {7, 110.0}}});
  meter.Look(15, {});                           // dead
  meter.Look(20, {{"generator-0", {8, 4.0}}});  // another process; all of its time is new
  EXPECT_DOUBLE_EQ(*meter.Share(1), 14.0 / 20);
}

TEST(BusyMeterTest, IsTheMeanOfSeveralGenerators) {
  BusyMeter meter;
  meter.Look(0, {{"generator-0", {7, 0.0}}});
  meter.Look(10, {{"generator-0", {7, 10.0}}, {"generator-1", {9, 300.0}}});  // first seen now
  meter.Look(20, {{"generator-0", {7, 20.0}}, {"generator-1", {9, 310.0}}});
  EXPECT_DOUBLE_EQ(*meter.Share(2), 30.0 / 40);
}

}  // namespace
}  // namespace tramontane
