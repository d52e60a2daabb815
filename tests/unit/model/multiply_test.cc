// Products with weights: what at::mm gives, whatever the type, the number of rows and the strides.
#include "model/ops/multiply.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <tuple>

namespace tramontane {
namespace {

class MultiplyTest : public ::testing::TestWithParam<std::tuple<at::ScalarType, int64_t>> {
 protected:
  at::TensorOptions options() const { return at::TensorOptions().dtype(std::get<0>(GetParam())); }
  int64_t rows() const { return std::get<1>(GetParam()); }

  // Against the product in float64 of the same numbers.
  void Check(const at::Tensor& product, const at::Tensor& expected) {
    const double tolerance = options().dtype() == at::kDouble  ? 1e-12
                             : options().dtype() == at::kFloat ? 1e-5
                                                               : 2e-2;
    ASSERT_EQ(product.sizes(), expected.sizes());
    EXPECT_EQ(product.scalar_type(), std::get<0>(GetParam()));
    const at::Tensor error = (product.to(at::kDouble) - expected).abs();
    const at::Tensor relative = error / (expected.abs() + 1);
    EXPECT_TRUE(at::all(relative < tolerance).item<bool>()) << relative;
  }
};

at::Tensor Wide(const at::Tensor& t) { return t.to(at::kDouble); }

INSTANTIATE_TEST_SUITE_P(TypesAndRows, MultiplyTest,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kDouble,
                                                              at::kBFloat16),
                                            ::testing::Values(0, 1, 127, 128, 300)));

TEST_P(MultiplyTest, RowsTimesWeights) {
  const at::Tensor x = at::rand({rows(), 40}, options()) - 0.5;
  const at::Tensor weight = at::rand({72, 40}, options()) - 0.5;
  const at::Tensor bias = at::rand({72}, options()) - 0.5;
  Check(TimesTransposed(x, weight), at::mm(Wide(x), Wide(weight).t()));
  Check(TimesTransposed(x, weight, bias), at::addmm(Wide(bias), Wide(x), Wide(weight).t()));
}

TEST_P(MultiplyTest, GradientsOfRows) {
  const at::Tensor y = at::rand({rows(), 72}, options()) - 0.5;
  const at::Tensor weight = at::rand({72, 40}, options()) - 0.5;
  Check(Times(y, weight), at::mm(Wide(y), Wide(weight)));
}

TEST_P(MultiplyTest, SlicesOfLargerTensors) {
  const at::Tensor x = (at::rand({rows() + 5, 100}, options()) - 0.5).narrow(0, 2, rows());
  const at::Tensor weight = (at::rand({90, 64}, options()) - 0.5).narrow(0, 9, 72);
  Check(TimesTransposed(x.narrow(1, 3, 64), weight),
        at::mm(Wide(x.narrow(1, 3, 64)), Wide(weight).t()));
  Check(Times(x.narrow(1, 7, 72), weight), at::mm(Wide(x.narrow(1, 7, 72)), Wide(weight)));
}

TEST_P(MultiplyTest, TheSameRowsGiveTheSameBits) {
  const at::Tensor x = at::rand({rows(), 40}, options());
  const at::Tensor weight = at::rand({72, 40}, options());
  EXPECT_TRUE(at::equal(TimesTransposed(x, weight), TimesTransposed(x, weight)));
}

}  // namespace
}  // namespace tramontane
