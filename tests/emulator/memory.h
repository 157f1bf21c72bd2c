// The buffers in global memory, and what the checker remembers of their words.
#pragma once

#include "internal.h"

#include <map>

namespace emu {
struct Stamp {
  uint32_t time = 0, pc = 0;
  uint16_t thread = 0;
};
struct Cell {  // 4 bytes
  Stamp write, read;                    // the latest of each
  uint8_t bytes_written = 0, bytes_read = 0;  // since the latest barrier
  // Readers since: several lanes of one warp, several warps of one block, several blocks of one launch.
  bool lanes = false, warps = false, blocks = false;
  std::vector<Stamp> earlier;  // reads by earlier nodes of the graph under way, since the latest write
  bool in_flight = false;  // an asynchronous copy goes there that nobody has waited for
};
struct Buffer {
  uintptr_t base = 0;
  size_t bytes = 0;
  std::vector<Cell> cells;
};
Buffer* find_buffer(uintptr_t p);  // the buffer that p is in, or in the guard of
void forget_buffers();             // the checker's cache: a buffer is about to go
}  // namespace emu
