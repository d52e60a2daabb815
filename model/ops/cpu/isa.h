// What each kernel unit defines, per instruction set (namespace TRAMONTANE_ISA).
#pragma once

#include "model/ops/cpu/gemm.h"
#include "model/ops/cpu/kernels.h"

#define TRAMONTANE_TEXT_OF(x) #x
#define TRAMONTANE_TEXT(x) TRAMONTANE_TEXT_OF(x)
#define TRAMONTANE_ISA_NAME TRAMONTANE_TEXT(TRAMONTANE_ISA)

namespace tramontane::kernels::TRAMONTANE_ISA {

template <typename T>
void RmsNorm(int64_t rows, int64_t dim, const T* x, const T* weight, double eps, T* y, T* rstd);
template <typename T>
void RmsNormApply(int64_t rows, int64_t dim, const T* x, const T* weight, const T* rstd, T* y);
template <typename T>
void RmsNormBackward(int64_t rows, int64_t dim, const T* dy, const T* x, const T* weight,
                     const T* rstd, const T* residual, T* dx, T* d_weight);
template <typename T>
void HeadRopeForward(const HeadRope<T>& args, T* y, int64_t y_stride, T* rstd);
template <typename T>
void HeadRopeBackward(const HeadRope<T>& args, const T* rstd, const T* d_q, int64_t dq_stride,
                      const T* d_k, int64_t dk_stride, T* dx, int64_t dx_stride, T* d_q_weight,
                      T* d_k_weight);
template <typename T>
void SiluMul(int64_t rows, int64_t width, const T* gate_up, T* y);
template <typename T>
void SiluMulBackward(int64_t rows, int64_t width, const T* gate_up, const T* dy, T* d_gate_up,
                     T* y);
template <typename T>
void PackedForward(const PackedHeads<T>& args, T* out, T* lse);
template <typename T>
void PackedBackward(const PackedHeads<T>& args, const PackedHeadsGrad<T>& grad);
template <typename T>
void PagedWrite(const PagedRows<T>& args);
template <typename T>
void PagedAttend(const PagedRows<T>& args);
template <typename T>
void LogSoftmaxGather(int64_t rows, int64_t vocab, const T* logits, double inv_temperature,
                      const int64_t* targets, T* logprob, T* lse, T* entropy);
template <typename T>
void LogSoftmaxBackward(int64_t rows, int64_t vocab, T* logits, double inv_temperature,
                        const int64_t* targets, const T* lse, const T* d_logprob, const T* entropy,
                        const T* d_entropy);
template <typename T>
void ExpAll(int64_t n, const T* x, T* y);

template <typename T>
const KernelTable<T>& Table();
const GemmTable& GemmTableHere();

}  // namespace tramontane::kernels::TRAMONTANE_ISA
