// Sums over the rows of a batch, column by column.
//
// A block has 32 columns and all rows. Warp k has the rows r with r % 8 = k, each lane a column: these are the 8 chains of a sum of the CPU,
// which are added in the same pairs, so that what is made of the sums has the CPU's bits.
#pragma once

#include "device.cuh"

constexpr int COLUMNS = 32, CHAINS = 8, COLUMN_THREADS = COLUMNS * CHAINS;

// The column of a thread; beyond the end the last one is read again, and nothing comes of it.
struct Column {
  int at;
  bool is_there;
  DEVICE Column(int F, int group) {
    const int column = group * COLUMNS + threadIdx.x % COLUMNS;
    is_there = column < F;
    at = is_there ? column : F - 1;
  }
  DEVICE bool is_first_chain() const { return is_there && threadIdx.x < COLUMNS; }  // who writes what there is one of
};

// The sum of the chains of a column, in every thread of it. `chains` has room for one number of each thread; nobody else uses it before or after.
DEVICE float sum_of_chains(float chain, float* chains) {
  chains[threadIdx.x] = chain;
  __syncthreads();
  const float* c = chains + threadIdx.x % COLUMNS;
  return ((c[0] + c[32]) + (c[64] + c[96])) + ((c[128] + c[160]) + (c[192] + c[224]));
}
