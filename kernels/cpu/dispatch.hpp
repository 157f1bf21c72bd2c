// From run-time codes to compile-time constants, so that the loops inside have no branch on them.

// An integer known at compile time.
template <int N> struct Constant { constexpr operator int() const { return N; } };

template <class F> INLINE void with_activation(int64_t act, F&& f) {
  switch (act) {
    case RELU: return f(Constant<RELU>());
    case LEAKY_RELU: return f(Constant<LEAKY_RELU>());
    case SIGMOID: return f(Constant<SIGMOID>());
    case TANH: return f(Constant<TANH>());
    default: return f(Constant<IDENTITY>());
  }
}

template <class F> INLINE void with_beta(int64_t beta, F&& f) { beta ? f(Constant<1>()) : f(Constant<0>()); }

// dst = beta dst + value; with beta 0 dst is not read.
template <class Beta> INLINE void put(Beta beta, float& dst, float value) { dst = beta ? dst + value : value; }

// Calls f(Constant<n>()) for 1 <= n <= N: register tiles must know their height when compiled.
template <int N, class F> INLINE void with_count(long n, F&& f) {
  if constexpr (N > 1)
    if (n < N) return with_count<N - 1>(n, f);
  f(Constant<N>());
}
