// Memory transactions of each instruction: what a warp's 32 accesses cost, and what they would cost at best.
//
// The lanes' k-th executions of an instruction are taken for one request. Where some lanes skip executions, that is a guess.
#include "internal.h"

#include <algorithm>
#include <unordered_map>

namespace emu {
bool profiling = false;

namespace {
struct LaneAccess { int lane; uintptr_t address; };
struct Instruction {
  bool shared = false, write = false;
  size_t bytes = 0;
  uint64_t requests = 0, actual = 0, ideal = 0;            // sectors of 32 bytes (global), passes over the banks (shared)
  std::unordered_map<uint64_t, uint32_t> executions;      // by block and thread
  std::unordered_map<uint64_t, std::vector<LaneAccess>> open;  // by block, warp and execution
};
std::unordered_map<uint64_t, Instruction> instructions;  // by pc and space

size_t count_distinct(std::vector<uintptr_t>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values.size();
}

// 32 banks of 4 bytes. Of wide accesses, as many lanes are served together as make 128 bytes.
void count_passes(Instruction& in, const std::vector<LaneAccess>& lanes) {
  const int together = 128 / static_cast<int>(std::max<size_t>(4, in.bytes));
  for (int first = 0; first < 32; first += together) {
    std::vector<uintptr_t> words;
    for (const LaneAccess& a : lanes)
      if (a.lane >= first && a.lane < first + together)
        for (uintptr_t word = a.address / 4; word <= (a.address + in.bytes - 1) / 4; word++) words.push_back(word);
    if (words.empty()) continue;
    count_distinct(words);
    int in_bank[32] = {};
    for (uintptr_t word : words) in_bank[word % 32]++;
    in.actual += *std::max_element(in_bank, in_bank + 32);
    in.ideal++;
  }
}
void count_sectors(Instruction& in, const std::vector<LaneAccess>& lanes) {
  std::vector<uintptr_t> words, sectors;
  for (const LaneAccess& a : lanes)
    for (uintptr_t word = a.address / 4; word <= (a.address + in.bytes - 1) / 4; word++) words.push_back(word), sectors.push_back(word / 8);
  in.actual += count_distinct(sectors);
  in.ideal += (count_distinct(words) + 7) / 8;
}
void close_request(Instruction& in, const std::vector<LaneAccess>& lanes) {
  in.requests++;
  if (in.shared) count_passes(in, lanes);
  else count_sectors(in, lanes);
}
}  // namespace

void record(const Fiber& f, uint32_t pc, uintptr_t address, size_t bytes, bool shared, bool write) {
  Instruction& in = instructions[uint64_t(pc) << 2 | shared << 1 | write];
  in.shared = shared, in.write = write, in.bytes = bytes;
  const uint64_t execution = in.executions[uint64_t(block.number) << 10 | f.number]++;
  const uint64_t request = (uint64_t(block.number) << 5 | f.warp) << 32 | execution;
  std::vector<LaneAccess>& lanes = in.open[request];
  lanes.push_back({f.lane, address});
  if (lanes.size() < 32) return;
  close_request(in, lanes);
  in.open.erase(request);
}
void end_profiled_launch() {
  for (auto& [key, in] : instructions) {
    for (auto& [request, lanes] : in.open) close_request(in, lanes);
    in.open.clear();
    in.executions.clear();
  }
}
}  // namespace emu

EMU_API void emu_profile(int on) {
  emu::profiling = on;
  if (on) emu::instructions.clear();
}
// A row each: pc, shared, write, bytes, requests, actual, ideal. Returns how many there are, `room` or not.
EMU_API size_t emu_profile_rows(uint64_t* out, size_t room) {
  size_t n = 0;
  for (const auto& [key, in] : emu::instructions) {
    if (n++ >= room) continue;
    const uint64_t row[] = {key >> 2, in.shared, in.write, in.bytes, in.requests, in.actual, in.ideal};
    out = std::copy(row, row + 7, out);
  }
  return emu::instructions.size();
}
