// Terms of the energies of Boltzmann machines, and a bias with its activation.

KERNEL(add_bias) {
  const float *x = in<float>(buf, 0), *bias = in<float>(buf, 1);
  float *y = out<float>(buf, 2), slope = (float)scalar[0];
  long N = dim[1];
  with_activation(dim[2], [&](auto act) {
    for_rows(dim[0], 10.0 * N, [=](long r) {
#pragma GCC ivdep
      for (long c = 0; c < N; ++c) y[r * N + c] = activation(x[r * N + c] + bias[c], act, slope);
    });
  });
}

// The sum of a column is that of `sum_rows`; the loss is made of these sums.
KERNEL(bias_product) {
  const float *bias = in<float>(buf, 0), *v = in<float>(buf, 1);
  float* dbias = out<float>(buf, 2);
  long B = dim[0], N = dim[1];
  for_columns(N, 3.0 * B, [&](long first, long n) {
    for_vectors(n, [&](auto whole, long j, long left) {
      const float* column = v + first + j;
      store_some<whole>(dbias + first + j, sum_rows<1>(B, [=](long r) { return Sums<1>{{load_some<whole>(column + r * N, left)}}; }).of[0], left);
    });
  });
  double weight = scalar[0] / B;
  float factor = (float)weight;
  double sum = sum_elements(N, 3, [=](long c) {
    float rows = dbias[c];
    dbias[c] = factor * rows;
    return bias[c] * rows;
  });
  *out<float>(buf, 3) = (float)(weight * sum);
}

KERNEL(inner_product) {
  const float *x = in<float>(buf, 0), *v = in<float>(buf, 1);
  float* dx = out<float>(buf, 2);
  double weight = scalar[0] / dim[0];
  float factor = (float)weight;
  double sum = sum_elements(dim[0] * dim[1], 3, [=](long i) {
    dx[i] = factor * v[i];
    return x[i] * v[i];
  });
  *out<float>(buf, 3) = (float)(weight * sum);
}
