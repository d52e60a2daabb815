// The exact KL over the vocabulary: against the plain formula and autograd, in chunks, as a
// teacher.
#include "trainer/learner/vocab_kl.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace tramontane {
namespace {

constexpr double kTemperature = 0.7;

HeadInput RandomHead(int64_t width) {
  return {at::randn({7, width}, at::kDouble), at::randn({11, width}, at::kDouble)};
}

HeadInput WantingGradient(const HeadInput& head) {
  return {head.hidden_RD.detach().clone().set_requires_grad(true),
          head.weight_VD.detach().clone().set_requires_grad(true)};
}

at::Tensor LogSoftmax(const HeadInput& head) {
  return (at::mm(head.hidden_RD, head.weight_VD.t()) / kTemperature).log_softmax(1);
}

TEST(VocabKlTest, ValueAndGradientAreThoseOfTheFormulaInAnyChunks) {
  at::manual_seed(1);
  const HeadInput pi = RandomHead(5), q = RandomHead(3);  // another width: another model
  const at::Tensor weights = at::randn({7}, at::kDouble);
  for (const KlDirection direction : {KlDirection::kReverse, KlDirection::kForward}) {
    const HeadInput plain = WantingGradient(pi);
    const at::Tensor log_p = LogSoftmax(plain), log_q = LogSoftmax(q);
    const at::Tensor expected = direction == KlDirection::kReverse
                                    ? (log_p.exp() * (log_p - log_q)).sum(1)
                                    : (log_q.exp() * (log_q - log_p)).sum(1);
    const auto expected_grads =
        torch::autograd::grad({(expected * weights).sum()}, {plain.hidden_RD, plain.weight_VD});
    for (const int64_t chunk : {1, 3, 7, 100}) {
      const HeadInput own = WantingGradient(pi);
      const at::Tensor kl = VocabKl(own, q, kTemperature, direction, chunk);
      EXPECT_LE((kl - expected).abs().max().item<double>(), 1e-12);
      const auto grads =
          torch::autograd::grad({(kl * weights).sum()}, {own.hidden_RD, own.weight_VD});
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_LE((grads[i] - expected_grads[i]).abs().max().item<double>(), 1e-12) << chunk;
      }
    }
  }
}

TEST(VocabKlTest, GradientAgreesWithFiniteDifferences) {
  at::manual_seed(2);
  const HeadInput pi = WantingGradient(RandomHead(4)), q = RandomHead(4);
  const at::Tensor gradient =
      torch::autograd::grad({VocabKl(pi, q, 1, KlDirection::kReverse).sum()}, {pi.hidden_RD})[0];
  const at::NoGradGuard no_grad;
  for (const auto& [row, column] : {std::pair<int64_t, int64_t>{0, 0}, {3, 2}, {6, 1}}) {
    const auto at_offset = [&](double offset) {
      HeadInput moved = {pi.hidden_RD.clone(), pi.weight_VD};
      moved.hidden_RD[row][column] += offset;
      return VocabKl(moved, q, 1, KlDirection::kReverse).sum().item<double>();
    };
    EXPECT_NEAR(gradient[row][column].item<double>(), (at_offset(1e-6) - at_offset(-1e-6)) / 2e-6,
                1e-7);
  }
}

TEST(VocabKlTest, AStudentThatIsItsTeacherHasNothingToLearn) {
  at::manual_seed(3);
  const HeadInput teacher = RandomHead(4);
  for (const KlDirection direction : {KlDirection::kReverse, KlDirection::kForward}) {
    const HeadInput student = WantingGradient(teacher);
    const at::Tensor kl = VocabKl(student, teacher, kTemperature, direction);
    EXPECT_LE(kl.abs().max().item<double>(), 1e-14);
    EXPECT_LE(torch::autograd::grad({kl.sum()}, {student.hidden_RD})[0].abs().max().item<double>(),
              1e-14);
  }
}

TEST(VocabKlTest, OtherVocabulariesAreRefused) {
  const HeadInput pi = RandomHead(4);
  EXPECT_THROW(
      VocabKl(pi, {pi.hidden_RD, at::randn({9, 4}, at::kDouble)}, 1, KlDirection::kReverse),
      c10::Error);
}

}  // namespace
}  // namespace tramontane
