// Which kernel table this machine can run.
#include "model/ops/cpu/gemm.h"
#include "model/ops/cpu/kernels.h"

namespace tramontane::kernels {

namespace base {
template <typename T>
const KernelTable<T>& Table();
const GemmTable& GemmTableHere();
}
#if defined(__x86_64__)
namespace v3 {
template <typename T>
const KernelTable<T>& Table();
const GemmTable& GemmTableHere();
}
namespace v4 {
template <typename T>
const KernelTable<T>& Table();
const GemmTable& GemmTableHere();
}
#endif

template <typename T>
int RunnableKernels(const KernelTable<T>* tables[3]) {
  int n = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) tables[n++] = &v4::Table<T>();
  if (__builtin_cpu_supports("x86-64-v3")) tables[n++] = &v3::Table<T>();
#endif
  tables[n++] = &base::Table<T>();
  return n;
}

template <typename T>
const KernelTable<T>& Kernels() {
  static const KernelTable<T>& best = []() -> const KernelTable<T>& {
    const KernelTable<T>* tables[3];
    RunnableKernels(tables);
    return *tables[0];
  }();
  return best;
}

int RunnableGemms(const GemmTable* tables[3]) {
  int n = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) tables[n++] = &v4::GemmTableHere();
  if (__builtin_cpu_supports("x86-64-v3")) tables[n++] = &v3::GemmTableHere();
#endif
  tables[n++] = &base::GemmTableHere();
  return n;
}

const GemmTable& Gemm() {
  static const GemmTable& best = []() -> const GemmTable& {
    const GemmTable* tables[3];
    RunnableGemms(tables);
    return *tables[0];
  }();
  return best;
}

template int RunnableKernels<float>(const KernelTable<float>* tables[3]);
template int RunnableKernels<double>(const KernelTable<double>* tables[3]);
template const KernelTable<float>& Kernels<float>();
template const KernelTable<double>& Kernels<double>();

}  // namespace tramontane::kernels
