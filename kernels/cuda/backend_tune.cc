// Tiles of linears: which a shape may have, those that were chosen, and how long one takes.
//
//   one graph:   call on copy 0 | copy 1 | ... of the weights     weights come from memory, as in a step, and
//                                                                 no launch waits for the host
#include <algorithm>
#include <array>
#include <random>

#include "backend.h"

namespace octavo::cuda {
namespace {

constexpr size_t kColdBytes = size_t{256} << 20;  // of weights between two uses of a copy: beyond every L2
constexpr int kMostCopies = 16;
constexpr int kCalls = 8, kLargeCalls = 2;  // in a graph
constexpr double kLargeFlop = 5e10;         // of a call that takes at least 100 us anywhere
constexpr int kRuns = 5;                    // replays that are timed; the median counts
constexpr size_t kPatternBytes = size_t{1} << 20;

LinearSource sourceOf(const LinearShape& shape) {
  LinearSource source{};
  source.scheme = shape.groupSize > 0 ? LinearScheme::AwqInt4 : LinearScheme::Dense;
  source.k = shape.k;
  source.n = shape.n;
  source.groupSize = shape.groupSize;
  source.siluMulPairs = shape.siluMulPairs;
  source.numParts = shape.siluMulPairs ? 2 : 1;
  for (int i = 0; i < source.numParts; ++i) source.parts[i].n = shape.n / source.numParts;
  return source;
}

size_t bytesOf(const LinearShape& shape) {
  const LinearSource source = sourceOf(shape);
  return linearBytes(&source);
}

int64_t roundUp8(int64_t value) {
  return (value + 7) / 8 * 8;
}

// Random bits without the highest of an exponent: finite values below 2 in magnitude.
std::vector<uint16_t> pattern() {
  std::vector<uint16_t> values(kPatternBytes / sizeof(uint16_t));
  std::minstd_rand random(1);
  for (uint16_t& value : values) value = static_cast<uint16_t>(random() >> 8 & 0xbfff);
  return values;
}

int fill(CudaContext* context, char* to, size_t bytes) {
  static const std::vector<uint16_t> values = pattern();
  int status = gpu::copyFromPageable(to, values.data(), std::min(bytes, kPatternBytes), context->compute);
  for (size_t done = kPatternBytes; done < bytes && status == 0; done *= 2)
    status = gpu::copy(to + done, to, std::min(done, bytes - done), context->compute);
  return status;
}

// Memory for the largest of the shapes, once; false: the reason is in the context's error.
bool takeMemory(CudaContext* context) {
  TuneMemory& memory = context->tune;
  if (memory.weights) return true;
  size_t largest = 0, in = 0, out = 0;
  for (const LinearShape& shape : context->shapes) {
    const auto rows = static_cast<size_t>(shape.maxRows) * sizeof(Half);
    largest = std::max(largest, isSupported(shape) ? bytesOf(shape) : 0);
    in = std::max(in, rows * static_cast<size_t>(roundUp8(shape.k)));
    out = std::max(out, rows * static_cast<size_t>(roundUp8(shape.n)));
  }
  memory.bytes = largest + std::min(kColdBytes, largest * (kMostCopies - 1));
  memory.weights = static_cast<char*>(context->take(memory.bytes));
  memory.in = static_cast<Half*>(memory.weights ? context->take(in) : nullptr);
  memory.out = static_cast<Half*>(memory.in ? context->take(out) : nullptr);
  if (!memory.out) return false;
  int status = fill(context, memory.weights, memory.bytes);
  if (status == 0) status = fill(context, reinterpret_cast<char*>(memory.in), in);
  for (gpu::Event* event : {&memory.begin, &memory.end})
    if (status == 0) status = gpu::createEvent(event);
  return context->check(status, "memory to measure with") == 0;
}

// `calls` calls, each on the next copy of the weights.
int launchCalls(CudaContext* context, const LinearShape& shape, int rows, int tile, int calls) {
  const TuneMemory& memory = context->tune;
  const LinearSource source = sourceOf(shape);
  const size_t bytes = bytesOf(shape);
  const int copies = static_cast<int>(std::clamp<size_t>(memory.bytes / bytes, 1, kMostCopies));
  for (int i = 0, status = 0; i < calls; ++i) {
    CudaLinear linear;
    bindLinear(&linear, source, memory.weights + static_cast<size_t>(i % copies) * bytes);
    LinearCall<Half, Half> call{};
    call.in = memory.in;
    call.inStride = roundUp8(shape.k);
    call.out = memory.out;
    call.outStride = call.outWidth = static_cast<int>(roundUp8(linear.outputs));
    call.rows = rows;
    call.inWidth = static_cast<int>(roundUp8(shape.k));
    call.epilogue = linear.pairs ? LinearEpilogue::SiluMul : LinearEpilogue::None;
    call.workspace = {context->scratch.linearPartials, context->scratch.linearCounters};
    status = launchByTile(context, linear, call, tile);
    if (status != 0) return status;
  }
  return 0;
}

int capture(CudaContext* context, const LinearShape& shape, int rows, int tile, int calls, gpu::Graph* graph) {
  int status = gpu::synchronize(context->compute);
  if (status == 0) status = gpu::beginCapture(context->compute);
  if (status != 0) return status;
  status = launchCalls(context, shape, rows, tile, calls);
  const int ended = gpu::endCapture(context->compute, graph);
  return status != 0 ? status : ended;
}

// Median microseconds of the graph, after a replay that warms up.
int timeGraph(CudaContext* context, gpu::Graph graph, double* microseconds) {
  const TuneMemory& memory = context->tune;
  std::array<double, kRuns> times{};
  int status = gpu::launch(graph, context->compute);
  for (double& time : times) {
    if (status == 0) status = gpu::record(memory.begin, context->compute);
    if (status == 0) status = gpu::launch(graph, context->compute);
    if (status == 0) status = gpu::record(memory.end, context->compute);
    if (status == 0) status = gpu::synchronize(memory.end);
    if (status == 0) status = gpu::elapsed(memory.begin, memory.end, &time);
  }
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  *microseconds = times[kRuns / 2];
  return status;
}

}  // namespace

bool isSupported(const LinearShape& shape) {
  return shape.groupSize == 0 || int4Shape(sourceOf(shape)).groupSize > 0;
}

CudaLinear unboundLinear(const LinearShape& shape) {
  CudaLinear linear;
  bindLinear(&linear, sourceOf(shape), nullptr);
  return linear;
}

const char* tileName(int32_t tile) {
  return tile == kLibraryTile ? "cublaslt" : linearTileName(tile);
}

bool hasTile(const CudaContext* context, const LinearShape& shape, int rows, int tile) {
  if (!isSupported(shape) || !tileName(tile)) return false;
  const CudaLinear linear = unboundLinear(shape);
  if (tile == kLibraryTile) return context->library && libraryComputes(linear, rows);
  return tileFits(kLinearTiles[tile], rows, linear.paddedN, linear.paddedK);
}

int isTileCandidate(const Context* base, int32_t index, int32_t rows, int32_t tile) {
  const auto* context = static_cast<const CudaContext*>(base);
  const LinearShape& shape = context->shapes[static_cast<size_t>(index)];
  if (!hasTile(context, shape, rows, tile)) return 0;
  if (tile == kLibraryTile) return 1;
  const CudaLinear linear = unboundLinear(shape);
  return tileIsCandidate(kLinearTiles[tile], rows, linear.paddedN, linear.paddedK) ? 1 : 0;
}

int timeLinear(Context* base, int32_t index, int32_t rows, int32_t tile, double* microseconds) {
  return guarded(base, [&] {
    CudaContext* context = self(base);
    const LinearShape& shape = context->shapes[static_cast<size_t>(index)];
    if (!takeMemory(context)) return 1;
    const double flop = 2.0 * rows * static_cast<double>(shape.n) * static_cast<double>(shape.k);
    const int calls = flop > kLargeFlop ? kLargeCalls : kCalls;
    gpu::Graph graph = nullptr;
    int status = capture(context, shape, rows, tile, calls, &graph);
    if (status == 0) status = timeGraph(context, graph, microseconds);
    if (graph) gpu::destroyGraph(graph);
    *microseconds /= calls;
    return context->check(status, tileName(tile));
  });
}

void chooseTiles(const CudaContext* context, CudaLinear* linear, int groupSize) {
  for (const TileChoice& choice : context->choices) {
    const LinearShape& shape = context->shapes[static_cast<size_t>(choice.linear)];
    if (shape.n == linear->n && shape.k == linear->k && (shape.siluMulPairs != 0) == linear->pairs &&
        shape.groupSize == groupSize)
      linear->tiles.push_back({choice.mostRows, choice.tile});
  }
}

}  // namespace octavo::cuda
